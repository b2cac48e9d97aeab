"""What happens without an undocumented name: one warning in each process."""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

__all__ = ["IS_MISSING", "LOG", "warn_once"]

LOG: Final = logging.getLogger("airflow_allma.compat")

IS_MISSING: Final = (ImportError, AttributeError)


@cache
def warn_once(name: str, consequence: str) -> None:
    """Log, once in each process, that this Airflow lacks a name, and the consequence."""
    LOG.warning("%s: this Airflow has no %s", consequence, name)
