"""The provider entry point: the metadata of this package for Airflow's providers manager."""

from __future__ import annotations

from typing import Any, Final

from airflow_allma import __version__
from airflow_allma.compat import note_database
from airflow_allma.settings import OPTIONS, SECTION

__all__ = ["get_provider_info"]

_INTEGRATION: Final = "Allma"


def get_provider_info() -> dict[str, Any]:
    """Return the provider metadata, in the form of Airflow's ``provider_info.schema.json``.

    The plugin is not listed: it has an entry point, and Airflow reports a plugin that it finds twice as an
    import error. Connection types are not listed either: AWS is reached through those of the Amazon provider.

    Airflow calls this in every component before it forks processes, which can no longer see the database.
    """
    note_database()
    return {
        "package-name": "airflow-allma",
        "name": "Allma flows",
        "description": "Runs declarative, massively parallel Allma flows natively on Airflow.",
        "versions": [__version__],
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        "operators": [
            {"integration-name": _INTEGRATION, "python-modules": ["airflow_allma.operators.s3_manifest"]}
        ],
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
