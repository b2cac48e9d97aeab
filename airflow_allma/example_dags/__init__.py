"""The example flows of this package, which Airflow shows with ``[core] load_examples``."""

from __future__ import annotations
