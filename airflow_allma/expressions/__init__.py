"""Expressions of the flow language: JSONPath, conditions, targets.

They are compiled once and cached. Compiled objects never change, so threads share them. Compiling raises
ExpressionSyntaxError, evaluating ExpressionEvaluationError, and nothing else but what ``load`` raises.
"""

from __future__ import annotations

from airflow_allma.expressions.conditions import Condition, compile_condition
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.targets import Target, compile_target
from airflow_allma.expressions.values import NOTHING, LoadPointer, Nothing, copy_value

__all__ = [
    "NOTHING",
    "Condition",
    "LoadPointer",
    "Nothing",
    "Path",
    "Target",
    "compile_condition",
    "compile_path",
    "compile_target",
    "copy_value",
]
