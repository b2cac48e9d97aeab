from __future__ import annotations

import pytest

from airflow_allma.common.counted import counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 chunks"), (1, "1 chunk"), (2, "2 chunks"), (12_345, "12,345 chunks")]
)
def test_a_number_is_stated_with_the_form_of_its_noun(count, expected):
    assert counted(count, "chunk") == expected
