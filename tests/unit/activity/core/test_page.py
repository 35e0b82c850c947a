from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.activity.core.page import STEPS_S, page, step_of
from tenantgate.activity.core.sums import Activity, seen_of
from tenantgate.activity.core.table import table
from usage_rig import record

NASTY = "<script>alert(1)</script>\"&'\x1b[2J"


def activity(n: int = 3) -> Activity:
    out = Activity()
    for number in range(n):
        rules = {NASTY: {"mode": "block"}}
        seen = seen_of(
            record(number, latencies={"request": 5}, verdicts={"tenant-guardrails": {"rules": rules}})
        )
        assert seen is not None
        out.add(seen)
    return out


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_names_stay_text_and_the_page_loads_nothing() -> None:
    text = page(
        {0: {NASTY: activity()}, 3600: {"acme": activity(1)}},
        since_s=0,
        until_s=7200,
        step_s=3600,
        title=NASTY,
    )
    reader = Tags()
    reader.feed(text)
    tags = {tag for tag, _ in reader.seen}
    assert not tags & {"script", "img", "link", "iframe", "object"}
    assert not [a for _, attrs in reader.seen for a in attrs if a.startswith("on") or a in {"href", "src"}]
    assert "\x1b" not in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 4  # nothing hit and nothing failed: no picture of these
    assert all(ET.fromstring(picture) is not None for picture in pictures)


def test_a_span_without_requests_has_a_page() -> None:
    assert "Requests by tenant: none" in page({}, since_s=0, until_s=86_400, step_s=3600)


@given(st.floats(1, 60 * STEPS_S[-1]))
def test_no_chart_has_more_than_sixty_columns(span_s: float) -> None:
    assert span_s / step_of(span_s) <= 60


@given(st.integers(0, 12), st.integers(0, 60), st.integers(0, 200))
def test_the_table_fits_the_terminal(tenants: int, rows: int, width: int) -> None:
    shown = table(
        {f"t{n}": activity(n) for n in range(tenants)}, span_s=60, rows=rows, width=width
    ).splitlines()
    assert not rows or len(shown) <= max(rows, 4)
    assert not width or all(len(line) <= width for line in shown)
    assert tenants == 0 or width or any(line.startswith("all ") for line in shown)


def test_the_table_says_what_happened() -> None:
    shown = table({"acme": activity(), NASTY: activity(1)}, span_s=2, order="tenant")
    assert "\x1b" not in shown
    assert re.search(r"^acme +3 +1\.50 +450 +0\.0004 USD +- +5 +5 +0 +0 +0$", shown, re.MULTILINE)
    assert re.search(r"^all +4 ", shown, re.MULTILINE)
