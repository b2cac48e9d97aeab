"""A store that cannot be reached."""

from __future__ import annotations

import pytest

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.unavailable import UnavailableStore

AT = Pointer("bucket", "key")
STORE = UnavailableStore("Nobody answers.")


@pytest.mark.parametrize(
    "access",
    [
        lambda: STORE.head(AT),
        lambda: STORE.read(AT),
        lambda: list(STORE.stream(AT)),
        lambda: STORE.write(AT, b""),
        lambda: STORE.open_writer(AT),
        lambda: list(STORE.list("bucket")),
    ],
)
def test_every_access_is_refused_with_the_reason(access):
    assert isinstance(STORE, ObjectStore)
    with pytest.raises(StorageUnavailableError, match=r"Nobody answers\."):
        access()
