"""Each step is told once in a window, whoever looks; recovery once; and again after a raise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.limits.core.alerting import (
    About,
    Plan,
    Standing,
    State,
    amount,
    percent,
    plan,
    quiet_until,
    read_about,
    read_state,
    shown,
)
from tenantgate.limits.core.claims import end_user_subject
from tenantgate.limits.core.rules import Counted, Do, Mode, Per, Rule, Step, Window

DAY_MS = 86_400_000
DOLLAR = 1_000_000_000
STEPS = (
    Step(at_permille=500, do=Do.NOTIFY),
    Step(at_permille=800, do=Do.NOTIFY, to="oncall"),
    Step(at_permille=900, do=Do.DEGRADE),
    Step(at_permille=1000, do=Do.BLOCK),
)
RULE = Rule(
    name="month",
    counted=Counted.COST,
    most=100 * DOLLAR,
    window=Window(unit="month"),
    steps=STEPS,
    budget=True,
)
ABOUT = About(RULE, "", "month:cost:tenant:")


class Book:
    """A state as Redis keeps it, and what was told."""

    def __init__(self, about: About = ABOUT) -> None:
        self.about, self.fields, self.told = about, dict[bytes, bytes](), list[Mapping[str, str]]()

    @property
    def state(self) -> State:
        return read_state(self.fields)

    def look(self, used: int, most: int = 100 * DOLLAR, *, window: int = 0, day: float = 0.1) -> list[str]:
        found = plan(self.about, self.state, at(used, most, window=window, day=day))
        return [] if found is None else self.write(found)

    def write(self, found: Plan) -> list[str]:
        for name in found.gone:
            self.fields.pop(name.encode(), None)
        self.fields |= {k.encode(): v.encode() for k, v in found.put.items()}
        self.fields[b"version"] = str(self.state.version + 1).encode()
        self.told += found.events
        return [f"{e['type']} {e.get('at', '')}".strip() for e in found.events]


def at(used: int, most: int = 100 * DOLLAR, *, window: int = 0, day: float = 0.1) -> Standing:
    start = window * 30 * DAY_MS
    return Standing(used, most, start, start + 30 * DAY_MS, start + int(day * DAY_MS))


def test_a_month_step_by_step() -> None:
    book = Book()
    assert book.look(10 * DOLLAR) == []
    assert book.look(50 * DOLLAR) == ["threshold_crossed 50%"]
    assert book.look(50 * DOLLAR) == []
    assert book.look(95 * DOLLAR) == ["threshold_crossed 80%", "threshold_crossed 90%"]
    assert book.look(100 * DOLLAR) == ["budget_crossed 100%"]
    assert book.look(100 * DOLLAR, 120 * DOLLAR) == ["budget_recovered 90%"]
    assert book.look(110 * DOLLAR, 120 * DOLLAR) == ["threshold_crossed 90%"]
    assert book.look(0, window=1) == ["budget_recovered 50%"]
    assert book.look(0, window=1) == []
    assert book.look(60 * DOLLAR, window=1) == ["threshold_crossed 50%"]
    assert book.look(99 * DOLLAR, window=0) == [], "a look at the window before is late"


def test_what_an_alert_says() -> None:
    book = Book()
    book.look(80 * DOLLAR + 120_000_000, day=12)
    first, oncall, projected = book.told
    assert oncall["to"] == "oncall"
    assert "to" not in first
    assert first["message"] == (
        "Budget month: 50% reached, 80.12 of 100 USD used; used up on 1970-01-15 at this pace."
    )
    assert first["projected_exceeded_date"].startswith("1970-01-15")
    assert (first["spend"], first["max_budget"], first["unit"]) == ("80.12", "100", "USD")
    assert (first["window_start"], first["window_end"]) == ("1970-01-01T00:00:00Z", "1970-01-31T00:00:00Z")
    assert projected["type"] == "projected_limit_exceeded"
    assert projected["projected_spend"] == "200.3"


def test_a_raise_takes_a_projection_back_and_lets_it_be_told_again() -> None:
    book = Book()
    assert book.look(40 * DOLLAR, day=10) == ["projected_limit_exceeded"]
    assert book.look(41 * DOLLAR, day=10.2) == []
    assert book.look(41 * DOLLAR, 200 * DOLLAR, day=10.3) == ["budget_recovered"]
    assert book.look(80 * DOLLAR, 200 * DOLLAR, day=11) == ["projected_limit_exceeded"]


def test_in_shadow_mode_it_is_told_that_nothing_happens() -> None:
    rule = Rule(
        name="m",
        counted=Counted.TOTAL_TOKENS,
        most=10,
        window=Window(unit="day"),
        steps=STEPS,
        mode=Mode.SHADOW,
    )
    book = Book(About(rule, "", "m"))
    book.look(10, 10)
    assert (
        book.told[-1]["message"]
        == "Budget m: 100% reached, 10 of 10 tokens used; in shadow mode, without effect."
    )
    assert book.told[-1]["mode"] == "shadow"


looks = st.lists(
    st.tuples(
        st.integers(0, 3),  # what is spent since the look before, in eighths of the limit
        st.sampled_from(["spend", "spend", "spend", "raise", "lower", "window"]),
    ),
    max_size=30,
)


@settings(max_examples=100)
@given(history=looks)
def test_between_two_recoveries_no_step_is_told_twice(history: list[tuple[int, str]]) -> None:
    book, used, most, window = Book(), 0, 80, 0
    for more, what in history:
        if what == "window":
            used, window = 0, window + 1
        most = {"raise": 2 * most, "lower": max(1, most // 2)}.get(what, most)
        used += more * 10
        book.look(used, most, window=window)
    since: Counter[str] = Counter()
    for event in book.told:
        if event["type"] == "budget_recovered":
            lowest = float(event.get("at", "0%")[:-1])
            since = Counter({a: n for a, n in since.items() if a and float(a[:-1]) < lowest})
        elif event["type"] != "projected_limit_exceeded":
            since[event["at"]] += 1
            assert since[event["at"]] == 1


@settings(max_examples=100)
@given(history=looks, seed=st.randoms(use_true_random=False))
def test_nodes_that_look_at_once_tell_what_one_would(history: list[tuple[int, str]], seed: object) -> None:
    """Plans made of the same state: the first that is written counts, the others look again."""
    alone, fleet = Book(), Book()
    used, most, window = 0, 80, 0
    for more, what in history:
        if what == "window":
            used, window = 0, window + 1
        most = {"raise": 2 * most, "lower": max(1, most // 2)}.get(what, most)
        used += more * 10
        alone.look(used, most, window=window)
        version = fleet.state.version
        plans = [plan(ABOUT, fleet.state, at(used, most, window=window)) for _ in range(3)]
        for made in plans:
            if made is not None and fleet.state.version == version:
                fleet.write(made)
            else:
                fleet.look(used, most, window=window)
    assert fleet.told == alone.told


@given(used=st.integers(0, 2000), more=st.integers(0, 2000), most=st.integers(0, 1000))
def test_below_the_quiet_use_nothing_is_reached(used: int, more: int, most: int) -> None:
    book = Book()
    book.look(used, most)
    quiet = quiet_until(ABOUT, at(used, most))
    assert quiet > used
    later = min(used + more, quiet - 1)
    assert [e for e in book.look(later, most) if not e.startswith("projected")] == []


def test_a_budget_is_read_as_it_was_kept() -> None:
    for mode, per in ((Mode.SHADOW, Per.KEY), (Mode.ENFORCE, Per.TENANT)):
        window = Window(unit="week", timezone="Europe/Berlin", anchor_day=3)
        rule = Rule(
            name="w",
            counted=Counted.COST,
            most=7,
            window=window,
            steps=STEPS,
            mode=mode,
            per=per,
            budget=True,
        )
        about = About(rule, "k", "w:cost:key:k")
        assert read_about(about.to_json().encode()) == about


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"{}", b"[1,2,3,4,5,6,7,8,9]", b"null"])
def test_what_is_no_budget_is_none(raw: bytes | None) -> None:
    assert read_about(raw) is None


def test_a_state_that_something_else_has_written_is_read_as_far_as_it_goes() -> None:
    fields = {
        b"version": b"x",
        b"end": b"5",
        b"s:1": b"1",
        b"s:2": b"2 3",
        b"told:500.notify.": b"1",
        b"\xff": b"?",
    }
    state = read_state(fields)
    assert (state.version, state.end_ms, len(state.samples), len(state.told)) == (0, 5, 1, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "0.000000001"), (DOLLAR, "1"), (400_120_000_000, "400.12"), (100 * DOLLAR, "100")],
)
def test_dollars_are_exact(value: int, text: str) -> None:
    assert amount(Counted.COST, value) == text
    assert amount(Counted.REQUESTS, value) == str(value)


def test_parts_as_they_are_written() -> None:
    assert [percent(n) for n in (5, 500, 985, 1200)] == ["0.5%", "50%", "98.5%", "120%"]


def test_an_end_user_is_named_by_a_digest() -> None:
    window = Window(unit="day")
    user = Rule(name="u", counted=Counted.COST, most=1, window=window, per=Per.END_USER)
    found = shown(user, end_user_subject("jane.roe@example.org"))
    assert found == "sha256:" + sha256(b"jane.roe@example.org").hexdigest()[:16]
    assert shown(RULE, "whatever") == ""
