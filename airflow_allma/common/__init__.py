"""Small pieces that every layer shares; each module has one subject.

Imports nothing of this package but ``exceptions``. Import the modules, not this package.
"""

from __future__ import annotations

__all__: list[str] = []
