"""Fixtures of the pages over made-up data."""

from __future__ import annotations

import pytest

from tests.support.ui_server import UiServer


@pytest.fixture
def ui_server():
    with UiServer() as server:
        yield server
