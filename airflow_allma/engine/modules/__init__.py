"""System modules: what steps of type DATA_LOAD, DATA_SAVE and DATA_TRANSFORMATION run.

Transformations are pure functions. Modules that load or save data wait for a store or for AWS, and run in
threads.
"""

from __future__ import annotations

from airflow_allma.engine.modules.definition import Module, ModuleContext
from airflow_allma.engine.modules.registry import (
    MODULES,
    module_problem,
    run_module,
)

__all__ = [
    "MODULES",
    "Module",
    "ModuleContext",
    "module_problem",
    "run_module",
]
