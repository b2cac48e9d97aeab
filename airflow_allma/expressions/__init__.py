"""Expressions of the flow language: JSONPaths, conditions, targets, templates, configs, context mappings.

Expressions are compiled once and cached. Compiled objects are immutable, so threads can share them. Compiling
raises ExpressionSyntaxError, evaluating raises ExpressionEvaluationError or whatever ``load`` raises.
"""

from __future__ import annotations

from airflow_allma.expressions.conditions import Condition, compile_condition
from airflow_allma.expressions.configs import Config, compile_config, compile_config_string
from airflow_allma.expressions.context_mappings import ContextMappings, compile_context_mappings
from airflow_allma.expressions.json_copy import copy_value
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.targets import Target, compile_target
from airflow_allma.expressions.templates import (
    SlottedTemplate,
    Span,
    Template,
    compile_slotted_template,
    compile_template,
)
from airflow_allma.expressions.undefined import NOTHING, Nothing

__all__ = [
    "NOTHING",
    "Condition",
    "Config",
    "ContextMappings",
    "LoadPointer",
    "Nothing",
    "Path",
    "SlottedTemplate",
    "Span",
    "Target",
    "Template",
    "compile_condition",
    "compile_config",
    "compile_config_string",
    "compile_context_mappings",
    "compile_path",
    "compile_slotted_template",
    "compile_target",
    "compile_template",
    "copy_value",
]
