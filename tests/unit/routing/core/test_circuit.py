"""Circuits: which outcomes count, when a target is left out and comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.policy.core.records import FAILURES
from tenantgate.routing.core.circuit import (
    CREDENTIAL_OUT_S,
    MOST_WAIT_S,
    Circuit,
    Effect,
    State,
    after,
    back_at,
    effect_of,
    state_of,
)

NOW = 1_800_000_000.0
TERMS = {"max_fails": 3, "fail_timeout_s": 10.0}


def failed(*outcomes: str, at: float = NOW, wait_s: float | None = None) -> Circuit:
    circuit = Circuit()
    for outcome in outcomes:
        circuit = after(circuit, outcome, now=at, wait_s=wait_s)
    return circuit


@pytest.mark.parametrize(
    ("outcome", "effect"),
    [
        ("ok", Effect.SUCCESS),
        ("error", Effect.FAILURE),
        ("timeout", Effect.FAILURE),
        ("reset", Effect.FAILURE),
        ("http_408", Effect.FAILURE),
        ("http_429", Effect.FAILURE),
        ("http_500", Effect.FAILURE),
        ("http_529", Effect.FAILURE),
        ("http_501", Effect.FAILURE),
        ("http_401", Effect.CREDENTIAL_REFUSED),
        ("http_403", Effect.CREDENTIAL_REFUSED),
        *((text, Effect.NONE) for text in ("http_400", "http_404", "http_413", "http_422", "http_302")),
        *(
            (text, Effect.NONE)
            for text in ("context_length", "refused", "unknown", "aborted", "", "http_5000")
        ),
    ],
)
def test_effects(outcome: str, effect: Effect) -> None:
    assert effect_of(outcome) is effect


def test_each_class_of_failure_but_the_clients_own_counts() -> None:
    assert [name for name in FAILURES if effect_of(name) is Effect.NONE] == ["context_length"]


def test_it_opens_after_failures_in_a_row_and_half_opens_after_the_timeout() -> None:
    two, three = failed("http_500", "error"), failed("http_500", "error", "timeout")
    assert state_of(two, **TERMS, now=NOW) is State.CLOSED
    assert state_of(three, **TERMS, now=NOW) is State.OPEN
    assert state_of(three, **TERMS, now=NOW + 9.9) is State.OPEN
    assert state_of(three, **TERMS, now=NOW + 10) is State.HALF_OPEN
    assert three.cause == "timeout"


def test_a_success_closes_it_and_a_failed_probe_opens_it_again() -> None:
    three = failed("error", "error", "error")
    assert state_of(after(three, "ok", now=NOW + 10), **TERMS, now=NOW + 10) is State.CLOSED
    again = after(three, "error", now=NOW + 10)
    assert state_of(again, **TERMS, now=NOW + 19) is State.OPEN


def test_a_success_between_failures_counts_them_anew() -> None:
    circuit = failed("error", "error", "ok", "error", "error")
    assert circuit.failures == 2


def test_jitter_makes_it_up_to_a_quarter_longer() -> None:
    late = replace(failed("error", "error", "error"), jitter=1.0)
    assert back_at(late, **TERMS) == NOW + 12.5


@pytest.mark.parametrize(("wait_s", "until"), [(0.0, 0.0), (7.0, 7.0), (3600.0, MOST_WAIT_S), (-5.0, 0.0)])
def test_a_provider_that_asks_to_wait_is_left_out_at_once(wait_s: float, until: float) -> None:
    circuit = failed("http_429", wait_s=wait_s)
    for asked_s in (until - 0.1, until):
        expected = State.OPEN if asked_s < until else State.CLOSED
        assert state_of(circuit, **TERMS, now=NOW + asked_s) is expected


def test_a_longer_wait_of_the_provider_holds_over_the_timeout() -> None:
    circuit = failed("http_503", "http_503", "http_503", wait_s=60.0)
    assert state_of(circuit, **TERMS, now=NOW + 59) is State.OPEN
    assert state_of(circuit, **TERMS, now=NOW + 60) is State.HALF_OPEN


def test_a_success_that_was_under_way_leaves_the_providers_wait() -> None:
    circuit = after(failed("http_429", wait_s=30.0), "ok", now=NOW + 1)
    assert state_of(circuit, **TERMS, now=NOW + 29) is State.OPEN
    assert state_of(circuit, **TERMS, now=NOW + 30) is State.CLOSED


def test_a_refused_credential_is_out_at_once_and_for_longer() -> None:
    circuit = failed("http_401")
    assert state_of(circuit, **TERMS, now=NOW + CREDENTIAL_OUT_S - 1) is State.OPEN
    assert state_of(circuit, **TERMS, now=NOW + CREDENTIAL_OUT_S) is State.HALF_OPEN
    assert state_of(after(circuit, "ok", now=NOW + 1), **TERMS, now=NOW + 1) is State.CLOSED


def test_without_max_fails_only_the_provider_leaves_a_target_out() -> None:
    terms = {"max_fails": 0, "fail_timeout_s": 10.0}
    assert state_of(failed(*["error"] * 50, "http_401"), **terms, now=NOW) is State.CLOSED
    assert state_of(failed("http_429", wait_s=5.0), **terms, now=NOW) is State.OPEN


def test_each_reader_judges_by_its_own_settings() -> None:
    circuit = failed("error", "error")
    assert state_of(circuit, max_fails=2, fail_timeout_s=10.0, now=NOW) is State.OPEN
    assert state_of(circuit, max_fails=5, fail_timeout_s=10.0, now=NOW) is State.CLOSED


def test_a_time_far_ahead_of_the_clock_keeps_nothing_out() -> None:
    circuit = Circuit(failures=3, failed_at=NOW + 86_400)
    assert state_of(circuit, **TERMS, now=NOW) is State.HALF_OPEN


@given(
    st.lists(st.sampled_from(["http_400", "http_404", "http_422", "http_413", "context_length", "refused"]))
)
def test_errors_of_clients_change_nothing(outcomes: list[str]) -> None:
    before = failed("error", "http_429", wait_s=3.0)
    circuit = before
    for outcome in outcomes:
        circuit = after(circuit, outcome, now=NOW + 1, wait_s=100.0)
    assert circuit == before
