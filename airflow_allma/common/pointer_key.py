"""The key that makes a JSON object a pointer."""

from __future__ import annotations

from typing import Final

__all__ = ["POINTER_KEY"]

POINTER_KEY: Final = "_s3_output_pointer"
"""A JSON object with this key represents the content of an S3 object."""
