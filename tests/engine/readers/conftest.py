from __future__ import annotations

from tests.support.moto import moto_endpoint

__all__ = ["moto_endpoint"]
