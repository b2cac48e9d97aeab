"""Expressions of the flow language: JSONPath, conditions, targets, templates, configs, context mappings.

They are compiled once and cached. Compiled objects never change, so threads share them. Compiling raises
ExpressionSyntaxError, evaluating ExpressionEvaluationError, and nothing else but what ``load`` raises.
"""

from __future__ import annotations

from airflow_allma.expressions.conditions import Condition, compile_condition
from airflow_allma.expressions.context_mappings import ContextMappings, compile_context_mappings
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.rendering import Config, compile_config
from airflow_allma.expressions.targets import Target, compile_target
from airflow_allma.expressions.templates import Template, compile_template
from airflow_allma.expressions.values import NOTHING, LoadPointer, Nothing, copy_value

__all__ = [
    "NOTHING",
    "Condition",
    "Config",
    "ContextMappings",
    "LoadPointer",
    "Nothing",
    "Path",
    "Target",
    "Template",
    "compile_condition",
    "compile_config",
    "compile_context_mappings",
    "compile_path",
    "compile_target",
    "compile_template",
    "copy_value",
]
