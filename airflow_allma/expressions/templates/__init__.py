"""Handlebars templates, compiled to closures.

The way of a template: ``lexer`` (text to tokens), ``parser`` (tokens to ``tree``), ``whitespace`` (cuts the
texts of the tree), ``compiler`` (tree to closures, with ``blocks``, ``helpers``, ``pieces``),
``template`` (the cache).
``direct`` is the short way of templates without blocks and helpers; ``runtime`` is what a rendering carries.
"""

from __future__ import annotations

from airflow_allma.expressions.templates.template import Template, compile_template

__all__ = ["Template", "compile_template"]
