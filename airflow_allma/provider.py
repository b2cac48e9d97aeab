"""What Airflow's providers manager finds: who we are, and the settings of ``[allma]``."""

from __future__ import annotations

from typing import Any

from airflow_allma import __version__
from airflow_allma.settings import OPTIONS, SECTION

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, as Airflow's schema for it has it."""
    return {
        "package-name": "airflow-allma",
        "name": "Allma flows",
        "description": "Runs declarative, massively parallel Allma flows natively on Airflow.",
        "versions": [__version__],
        "config": {
            SECTION: {
                "description": "Limits and connections of Allma flows; a flow's `airflow` object wins.",
                "options": {
                    name: {
                        "description": option.description + "\n",
                        "version_added": "0.1.0",
                        "type": option.kind,
                        "example": option.example,
                        "default": option.default,
                    }
                    for name, option in OPTIONS.items()
                },
            }
        },
    }
