from __future__ import annotations

from tests.storage.conftest import make_bucket, moto_endpoint, world

__all__ = ["make_bucket", "moto_endpoint", "world"]
