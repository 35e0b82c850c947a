"""The stage: calls to Kong, headers, refusals, and what can't be counted."""

from __future__ import annotations

from typing import Any

import pytest

from limits_rig import Stage
from tenantgate.limits import service
from tenantgate.limits.core.ports import NotCountedError
from tenantgate.limits.local_counters import LocalCounters
from tenantgate.llm.chat import JSON_TYPE
from tenantgate.telemetry import metrics

PER_DAY = {"per_day": 3}


@pytest.fixture(autouse=True)
def counters(monkeypatch: pytest.MonkeyPatch) -> LocalCounters:
    made = LocalCounters()
    monkeypatch.setattr(service, "_LOCAL", made)
    return made


def stage(**config: Any) -> Stage:
    made = Stage({"policy": "local", **config})
    assert made.config_error is None
    return made


def outcome(name: str) -> float:
    return service._requests.value(outcome=name)


def test_a_counted_request_gets_headers() -> None:
    before = outcome("counted")
    kong = stage(tenant=PER_DAY).ask()
    assert kong.methods() == ["client.get_consumer", "response.set_headers"]
    assert kong.reply_headers == {
        "X-RateLimit-Limit-Day": "3",
        "X-RateLimit-Remaining-Day": "2",
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "2",
        "RateLimit-Reset": "86400",
    }
    assert (kong.exit, kong.shared, outcome("counted") - before) == (None, {}, 1)


def test_a_request_too_many_is_answered() -> None:
    made = stage(tenant=PER_DAY, key={"per_day": 2})
    before, refused = outcome("refused"), service._refusals.value(subject="key", period="day")
    assert made.passed(2) == 2
    kong = made.ask()
    assert kong.methods() == [
        "client.get_consumer",
        "client.get_credential",
        "ctx.shared.set",
        "response.exit",
    ]
    assert kong.exit is not None
    assert (kong.exit.status, kong.exit.headers["content-type"]) == (429, JSON_TYPE)
    assert kong.exit.json["error"]["code"] == "rate_limit_exceeded"
    assert kong.exit.json["error"]["message"].startswith(
        "Rate limit reached: 2 requests per day for this API key."
    )
    assert kong.exit.headers["retry-after"] == kong.exit.headers["ratelimit-reset"]
    assert 86_000 <= int(kong.exit.headers["retry-after"]) <= 86_400
    assert (kong.exit.headers["ratelimit-limit"], kong.exit.headers["x-ratelimit-remaining-day"]) == (
        "2",
        "0",
    )
    assert kong.verdict(service.PLUGIN) == {"refused": True, "limit": "key", "period": "day"}
    assert outcome("refused") - before == 1
    assert service._refusals.value(subject="key", period="day") - refused == 1


def test_what_a_refused_request_would_count_for_is_left() -> None:
    made = stage(tenant=PER_DAY, key={"per_day": 1})
    assert [made.passed(9, "acme", key) for key in ("c-1", "c-2", "c-3", "c-4")] == [1, 1, 1, 0]


def test_tenants_keys_and_models_are_counted_apart() -> None:
    gpt, claude = (stage(tenant=PER_DAY, model={"per_day": 1}, model_name=name) for name in ("gpt", "claude"))
    other = stage(tenant=PER_DAY)
    assert [gpt.passed(2), claude.passed(2), other.passed(9), gpt.passed(2, "globex")] == [1, 1, 3, 1]
    by_key = stage(key={"per_day": 1})
    assert [by_key.passed(2, *who) for who in (("a", "k"), ("a", "l"), ("b", "k"))] == [1, 1, 1]


@pytest.mark.parametrize(
    "tenants", [("a", "a:b"), ("a}", "{a}"), ("é", "\udce9"), ("a", "A"), ("x" * 9999, "x" * 9998)]
)
def test_hostile_ids_are_counted_apart(tenants: tuple[str, str]) -> None:
    made = stage(tenant={"per_day": 1}, key={"per_day": 1})
    assert [made.passed(2, tenant, "k") for tenant in tenants] == [1, 1]
    by_key = stage(key={"per_day": 1})
    assert [by_key.passed(2, "someone", key) for key in tenants] == [1, 1]


def test_requests_without_a_credential_share_one_limit() -> None:
    made = stage(key={"per_day": 1})
    assert [made.passes("acme", None), made.passes("acme", None), made.passes("acme", "k")] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("on_error", "status"), [("pass", None), ("reject", 503)])
def test_without_a_tenant_nothing_is_counted(on_error: str, status: int | None) -> None:
    before = outcome("no_tenant")
    kong = stage(tenant={"per_day": 1}, on_error=on_error).ask(None)
    assert (kong.exit and kong.exit.status) == status
    assert outcome("no_tenant") - before == 1


@pytest.mark.parametrize(("on_error", "status"), [("pass", None), ("reject", 503)])
def test_what_cannot_be_counted_passes_or_is_rejected(
    monkeypatch: pytest.MonkeyPatch, counters: LocalCounters, on_error: str, status: int | None
) -> None:
    def fails(*_args: object) -> None:
        raise NotCountedError("redis: gone")

    monkeypatch.setattr(counters, "count", fails)
    before = outcome("uncounted")
    kong = stage(tenant=PER_DAY, on_error=on_error).ask()
    assert (kong.exit and kong.exit.status) == status
    assert kong.reply_headers == {}
    assert outcome("uncounted") - before == 1


def test_no_metric_names_a_tenant_or_a_key() -> None:
    made = stage(tenant=PER_DAY, key=PER_DAY)
    made.passed(5, "tenant-in-no-metric", "key-in-no-metric")
    assert "in-no-metric" not in metrics.exposition()
