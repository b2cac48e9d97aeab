"""Handlebars templates, compiled to closures.

A template passes through ``lexer`` (source to tokens), ``parser`` (tokens to the nodes of ``tree``),
``whitespace`` (strips the text in the tree) and ``compiler`` (tree to closures, with ``blocks``, ``helpers``
and ``concat``). ``template`` has the result and the cache. ``fast_path`` renders templates without blocks and
helpers. ``runtime`` is the state of one rendering.
"""

from __future__ import annotations

from airflow_allma.expressions.templates.template import (
    SlottedTemplate,
    Span,
    Template,
    compile_slotted_template,
    compile_template,
)

__all__ = [
    "SlottedTemplate",
    "Span",
    "Template",
    "compile_slotted_template",
    "compile_template",
]
