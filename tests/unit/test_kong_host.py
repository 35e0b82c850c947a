"""`Host` and `phase`, on the double of Kong."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from kong_pdk.pdk import Kong

from tenantgate.errors import ConfigError
from tenantgate.fields import config_class, field
from tenantgate.kong import Headers, Host, PdkMisuseError, configure, phase, verdict_key
from tenantgate.kong.policy import DEFAULT_DEADLINE_MS, PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.tenant import TenantId


@config_class
class Config:
    on_error: str = field("What happens when the plugin fails.", default="pass", one_of=("pass", "reject"))
    deadline_ms: int = field("Time for a phase.", default=1000, gt=0)


class Plugin:
    config: Config
    body: Any = staticmethod(lambda host: None)

    def __init__(self, config: dict[str, Any], body: Any = None) -> None:
        configure(self, Config, config)
        self.work = body
        self.seen: list[Any] = []

    @phase
    def access(self, host: Host) -> None:
        self.seen.append(self.work(host))

    @phase
    def log(self, host: Host) -> None:
        self.seen.append(self.work(host))


def run(
    work: Any, kong: FakeKong | None = None, name: str = "access", **config: Any
) -> tuple[FakeKong, list[Any]]:
    plugin = Plugin(config, work)
    kong = kong or FakeKong()
    kong.run(plugin, name)
    return kong, plugin.seen


@pytest.mark.parametrize(
    ("consumer", "tenant"),
    [
        (None, None),
        ({"id": "1"}, None),
        ({"custom_id": ""}, None),
        ({"custom_id": None}, None),
        ({"custom_id": "acme"}, TenantId("acme")),
        ({"custom_id": b"\xff"}, TenantId("\udcff")),
    ],
)
def test_the_tenant_is_the_custom_id_or_nobody(consumer: Any, tenant: TenantId | None) -> None:
    kong = FakeKong(answers={"kong.client.get_consumer": consumer})
    kong, seen = run(lambda host: (host.tenant(), host.tenant(), host.pdk_calls), kong)
    assert seen == [(tenant, tenant, 1)]


def test_reads_are_counted_and_made_once() -> None:
    def work(host: Host) -> Any:
        return host.body(), host.body(), host.headers().all("X-A"), host.headers().get("x-b"), host.pdk_calls

    kong, seen = run(work, FakeKong(body=b"\xff{}", headers={"X-A": ["1", "2"]}))
    assert seen == [(b"\xff{}", b"\xff{}", ("1", "2"), None, 2)]
    assert kong.calls == [("kong.request.get_raw_body", 0), ("kong.request.get_headers", 1000)]


@pytest.mark.parametrize(("given", "body"), [(None, b""), ("é\udcff", "é".encode() + b"\xff"), (b"x", b"x")])
def test_a_body_is_bytes(given: Any, body: bytes) -> None:
    kong = FakeKong(answers={"kong.request.get_raw_body": given})
    assert run(lambda host: host.body(), kong)[1] == [body]


def test_an_answer_ends_the_phase() -> None:
    def work(host: Host) -> None:
        host.answer(200, "é\udcff", {"X-A": "b"})

    kong, seen = run(work)
    assert seen == []
    assert kong.exit
    assert (kong.exit.status, kong.exit.body, kong.exit.headers) == (
        200,
        "é".encode() + b"\xff",
        {"x-a": "b"},
    )
    # kong-pdk's own server, which FakeKong is like, leaks the event if exit is the very first call.
    assert kong.methods() == ["ctx.shared.get", "response.exit"]


def test_nothing_is_called_after_the_answer() -> None:
    def work(host: Host) -> None:
        try:
            host.answer(200, "x")
        finally:
            with pytest.raises(PdkMisuseError):
                host.set_headers({"a": "b"})

    assert run(work)[0].methods()[-1] == "response.exit"


def test_verdicts_pass_between_plugins() -> None:
    kong, _ = run(lambda host: host.put_verdict("tenant-semantic-cache", {"level": "exact"}))
    assert kong.shared == {"tenantgate_tenant_semantic_cache": '{"level":"exact"}'}
    assert kong.verdict("tenant-semantic-cache") == {"level": "exact"}
    assert run(lambda host: host.verdict("tenant-semantic-cache"), kong)[1] == [{"level": "exact"}]
    for foreign in (None, "no json", "[]", 7):
        kong.shared[verdict_key("x")] = foreign
        assert run(lambda host: host.verdict("x"), kong)[1] == [None]


def test_reply_headers_cost_one_call_or_none() -> None:
    assert run(lambda host: host.set_headers({"A": "1", "B": "\udcff"}))[0].reply_headers == {
        "A": "1",
        "B": b"\xff",
    }
    assert run(lambda host: host.set_headers({}))[0].calls == []


def test_a_replaced_body_is_the_body() -> None:
    kong, seen = run(lambda host: (host.replace_body(b"new"), host.body()))
    assert (kong.sent_body, seen) == (b"new", [(None, b"new")])


def test_the_log_phase_calls_only_what_kong_answers_there() -> None:
    def misuse(host: Host) -> None:
        host.body()

    kong, seen = run(misuse, name="log")
    assert (kong.calls, seen) == ([], [])

    kong = FakeKong(consumer="acme", record={"status": 200}, status=201, response_headers={"X-A": "1"})

    def work(host: Host) -> Any:
        return host.record(), host.tenant(), host.response_status(), host.response_headers().get("x-a")

    assert run(work, kong, "log")[1] == [({"status": 200}, TenantId("acme"), 201, "1")]


@pytest.mark.parametrize(
    "error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt(), RecursionError()]
)
def test_a_failure_follows_on_error(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def work(host: Host) -> None:
        host.tenant()
        raise error

    with caplog.at_level(logging.WARNING):
        assert run(work)[0].exit is None
        kong, _ = run(work, on_error="reject")
        assert kong.exit
        assert (kong.exit.status, kong.exit.json["error"]["code"]) == (503, "tenantgate_unavailable")
        assert run(work, name="log", on_error="reject")[0].exit is None
    assert "secret" not in caplog.text
    assert {r.tenantgate_fields["error"] for r in caplog.records} == {type(error).__name__}  # type: ignore[attr-defined]


def test_the_message_of_our_own_errors_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def work(host: Host) -> None:
        raise ConfigError("field: what is wrong")

    with caplog.at_level(logging.WARNING):
        run(work)
    (record,) = caplog.records
    assert record.tenantgate_fields["message"] == "field: what is wrong"  # type: ignore[attr-defined]
    assert record.tenantgate_fields["at"].startswith("test_kong_host.py:")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "rejected"), [({"deadline_ms": -1}, False), ({"deadline_ms": -1, "on_error": "reject"}, True)]
)
def test_bad_configuration_is_a_failure_of_each_phase(config: dict[str, Any], rejected: bool) -> None:
    kong, seen = run(lambda host: "ran", **config)
    assert seen == []
    assert (kong.exit is not None) is rejected


def test_a_passed_deadline_is_a_failure() -> None:
    def work(host: Host) -> None:
        while host.remaining_ms() > 0:
            pass
        host.tenant()

    kong, _ = run(work, deadline_ms=1, on_error="reject")
    assert kong.methods() == ["ctx.shared.get", "response.exit"]


def test_config_keys_say_which_entity_runs() -> None:
    config = {"route_id": "r", "__plugin_id": "p", "__seq__": 3, "other": "x"}
    plugin = Plugin(config, lambda host: dict(host.config_keys))
    FakeKong().run(plugin, "access")
    assert plugin.seen == [{"route_id": "r", "__plugin_id": "p"}]


def test_lua_style_pairs_are_understood() -> None:
    kong = FakeKong(consumer="acme")
    kong.get = lambda: (kong._answer, None)  # type: ignore[method-assign]
    plugin = Plugin({}, lambda host: host.tenant())
    plugin.access(Kong(kong, lua_style=True).kong)
    assert plugin.seen == [TenantId("acme")]


def test_headers_are_a_multimap_without_case() -> None:
    headers = Headers({"X-A": ["1", "2"], "x-b": b"\xff", "Flag": True, "None": []})
    assert headers.all("x-a") == ("1", "2")
    assert headers.get("X-B") == "\udcff"
    assert (headers.get("flag"), headers.get("none"), headers.get("x-c", "d")) == ("", "", "d")
    assert "X-A" in headers
    assert set(headers) == {"x-a", "x-b", "flag", "none"}
    assert len(headers) == 4
    assert "1" not in repr(headers)


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        (None, PhasePolicy()),
        ({"on_error": "reject", "deadline_ms": 20}, PhasePolicy(reject=True, deadline_ms=20)),
        ({"on_error": "pass", "deadline_ms": -5}, PhasePolicy()),
        ({"deadline_ms": True}, PhasePolicy()),
        (Config(on_error="reject"), PhasePolicy(reject=True, deadline_ms=1000)),
    ],
)
def test_the_policy_is_read_from_any_plugin(config: Any, policy: PhasePolicy) -> None:
    plugin = type("Any", (), {"config": config})()
    assert PhasePolicy.of(plugin) == policy
    assert PhasePolicy().deadline_ms == DEFAULT_DEADLINE_MS


def test_only_phases_that_can_answer_reject() -> None:
    policy = PhasePolicy(reject=True)
    phases = ("certificate", "rewrite", "access", "response", "log")
    assert [name for name in phases if policy.rejects(name)] == ["rewrite", "access", "response"]


def test_fake_kong_refuses_what_kong_would_choke_on() -> None:
    class Careless:
        def access(self, kong: Any) -> None:
            kong.response.exit(200, "x")
            kong.response.set_header("a", "b")

        def log(self, kong: Any) -> None:
            kong.request.get_raw_body()

    for name in ("access", "log"):
        with pytest.raises(AssertionError):
            FakeKong().run(Careless(), name)
