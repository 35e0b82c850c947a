from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.usage.core.amounts import amount_of
from tenantgate.usage.core.entries import entries_of
from tenantgate.usage.core.report import CHART_OF, csv_text, html_page, json_text, svg, table
from tenantgate.usage.core.sums import grouped, total
from usage_rig import FEW, record, records

BY = ("tenant", "day", "model")


def sums(found: list[dict[str, Any]], by: tuple[str, ...] = BY) -> Any:
    return grouped([entry for one in found for entry in entries_of(one)], by)


@FEW
@given(records())
def test_csv_and_json_have_all_digits_of_each_row(found: list[dict[str, Any]]) -> None:
    made = sums(found)
    whole = total(made)
    rows = list(csv.DictReader(io.StringIO(csv_text(made, BY), newline="")))
    told = json.loads(json_text(made, BY))
    assert len(rows) == len(told["rows"]) == len(made)
    assert sum(int(row["requests"]) for row in rows) == whole.requests == told["total"]["requests"]
    if "USD" in whole.currencies:
        assert sum(amount_of(row["cost_USD"]) for row in rows) == whole.cost("USD")
        assert sum(amount_of(row["cost"].get("USD", "0")) for row in told["rows"]) == whole.cost("USD")


@FEW
@given(
    found=records(), of=st.sampled_from(CHART_OF), by=st.sampled_from((BY, ("model",), ("month", "key"), ()))
)
def test_a_chart_is_svg_whose_columns_stay_in_its_frame(
    found: list[dict[str, Any]], of: str, by: tuple[str, ...]
) -> None:
    root = ET.fromstring(svg(sums(found, by), by, of=of, title="<&>"))
    bottom = float(root.attrib["height"])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        if rect.attrib["height"] != "100%":
            assert float(rect.attrib["y"]) >= 40
            assert float(rect.attrib["y"]) + float(rect.attrib["height"]) <= bottom


def test_a_day_without_usage_has_its_place() -> None:
    found = [record(1), record(2, time="2026-11-08T00:00:00Z")]
    assert svg(sums(found, ("day",)), ("day",)).count("rotate(") == 4


def test_a_table_has_the_sum_and_no_empty_columns() -> None:
    text = table(sums([record(1), record(2, tenant="globex")], ("tenant",)), ("tenant",))
    lines = text.splitlines()
    assert lines[0].split() == [
        "tenant",
        "requests",
        "tries",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cost_USD",
    ]
    assert lines[-1].split() == ["total", "2", "2", "200", "100", "80", "0.000246…"]
    assert len(table(sums([record(1)], ()), ()).splitlines()) == 2


@pytest.mark.parametrize("name", ["=cmd()", "+1", "@x", "-2", " =1", "\uff1d1"])
def test_no_name_is_a_formula_or_markup(name: str) -> None:
    made = sums([record(1, gen_ai__request={"model": f"{name}<script>"})], ("model",))
    assert csv_text(made, ("model",)).splitlines()[1].startswith("'")
    assert "<script" not in html_page(svg(made, ("model",)), made, ("model",), "<script>")
