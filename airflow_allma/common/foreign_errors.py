"""What code that is not part of this package can raise."""

from __future__ import annotations

from typing import Final

__all__ = ["FOREIGN_ERRORS"]

FOREIGN_ERRORS: Final = (Exception, SystemExit, KeyboardInterrupt)
"""What code of others can raise. Cancellation and Airflow's own time limit of a task are not among them."""
