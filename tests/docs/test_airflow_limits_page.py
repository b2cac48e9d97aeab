"""The page about Airflow's limits has the numbers of the table that the loader checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_allma.flow.airflow_limits import Kind
from tests.support.hostile_flows import ROWS

PAGE = (Path(__file__).parents[2] / "docs" / "airflow-limits.md").read_text()
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize(
    ("owner", "limit"), [pytest.param(*row, id=f"{row[0]}-{row[1].field}") for row in ROWS]
)
def test_every_row_of_the_table_is_on_the_page(owner, limit):
    name = limit.field.removesuffix(".*")
    (cells,) = (cells for cells in TABLE if f"`{name}`" in cells[0])
    _, most, beyond = cells
    assert beyond == limit.effect
    shown = limit.maximum if limit.kind is Kind.DATE else f"{limit.maximum:,}"
    assert re.search(rf"(?<![\d,-]){re.escape(shown)}(?![\d,])", most), most
    assert owner == "flow" or owner.replace("_", " ") in cells[0] or name.startswith("aggregationConfig")


def test_the_page_has_no_other_fields():
    known = {limit.field.removesuffix(".*") for _, limit in ROWS}
    assert {name for cells in TABLE for name in re.findall(r"`([^`]+)`", cells[0])} == known
