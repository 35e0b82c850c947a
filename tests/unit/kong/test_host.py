"""`Host` and `phase`, on the double of Kong."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kong_pdk.pdk import Kong

from tenantgate.errors import ConfigError
from tenantgate.fields import config_class, field
from tenantgate.kong import Headers, Host, PdkMisuseError, TenantPlugin, verdict_key
from tenantgate.kong.policy import DEFAULT_DEADLINE_MS, PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import ChatRequest
from tenantgate.manifest import PluginManifest
from tenantgate.tenant import TenantId


@config_class
class Config:
    on_error: str = field("What happens when the plugin fails.", default="pass", one_of=("pass", "reject"))
    deadline_ms: int = field("Time for a phase.", default=1000, gt=0)


MANIFEST = PluginManifest(
    name="test-plugin",
    section="test",
    description="A plugin of the tests.",
    priority=1,
    phases=("access", "log"),
    config_class=Config,
    service="types:SimpleNamespace",
)


class Plugin(TenantPlugin[Config], manifest=MANIFEST):
    def __init__(self, config: dict[str, Any], body: Any = None) -> None:
        super().__init__(config)
        self.seen: list[Any] = []
        self.work = SimpleNamespace(access=lambda host: self.seen.append(body(host)))
        self.work.log = self.work.access

    def service(self) -> SimpleNamespace:
        return self.work


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


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (None, None),
        ({}, None),
        ({"id": ""}, None),
        ({"id": 7}, None),
        ({"id": "k-1", "key": "secret"}, "k-1"),
    ],
)
def test_the_credential_is_named_by_its_id(shown: Any, found: str | None) -> None:
    kong = FakeKong(answers={"kong.client.get_credential": shown})
    kong, seen = run(lambda host: (host.credential(), host.credential(), host.pdk_calls), kong)
    assert seen == [(found, found, 1)]


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


KEPT = {"a": b"\x00\x80\xff\xc3", "é": ["\udc80\ud800", None, True, -7, 0.5, {"b": b""}], "n": 2**63}


def test_what_a_plugin_keeps_its_later_phases_get_in_one_call_each() -> None:
    kong, _ = run(lambda host: host.keep("tenant-semantic-cache", KEPT))
    assert kong.methods() == ["ctx.shared.set"]
    # Any text is the same after Kong, whose Lua has one type for texts and bytes, and kong-pdk, which reads UTF-8 only.
    [(key, text)] = kong.shared.items()
    assert key == "tenantgate_tenant_semantic_cache_kept"
    assert text.encode().decode() == text
    kong, seen = run(lambda host: host.kept("tenant-semantic-cache"), kong, "log")
    assert seen == [KEPT]
    assert kong.methods() == ["ctx.shared.set", "ctx.shared.get"]
    assert run(lambda host: host.verdict("tenant-semantic-cache"), kong)[1] == [None]


@pytest.mark.parametrize(
    "foreign",
    [
        None,
        "",
        "{}",
        b"\x80",
        7,
        "\x80\x80",
        "\x81\x80\x01",
        "\x90",
        "\u0100",
        "\xdf\xff\xff\xff\xff",
        "\x91" * 5000,
    ],
    ids=repr,
)
def test_what_nobody_kept_is_nothing(foreign: Any) -> None:
    kong = FakeKong(shared={"tenantgate_x_kept": foreign})
    assert run(lambda host: host.kept("x"), kong)[1] == [None]


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
    assert record.tenantgate_fields["at"].startswith("test_host.py:")  # type: ignore[attr-defined]


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


# -- the one reading of a body -----------------------------------------------------------------------------

PLAIN = b'{"messages":[{"role":"user","content":"hi"}]}'


def chat(kong: FakeKong) -> tuple[FakeKong, Any]:
    kong, (found,) = run(lambda host: (host.chat_request(), host.chat_request())[1], kong)
    return kong, found


def test_a_request_as_an_sdk_writes_it_takes_two_calls_and_stays() -> None:
    kong, found = chat(FakeKong(body=PLAIN))
    assert isinstance(found, ChatRequest)
    assert (kong.methods(), kong.sent_body) == (["request.get_headers", "request.get_raw_body"], None)


def test_the_first_plugin_writes_it_as_it_was_read_and_the_next_has_nothing_to_write() -> None:
    kong, found = chat(
        FakeKong(body=b' {"messages": [{"role": "user", "content": "\\u0068i"}], "stream": null}')
    )
    assert isinstance(found, ChatRequest)
    assert kong.sent_body == PLAIN
    kong.calls.clear()
    again, found = chat(kong)
    assert isinstance(found, ChatRequest)
    assert again.methods() == ["request.get_headers", "request.get_raw_body"]


def test_a_body_that_kong_takes_back_from_no_plugin_stays_or_is_refused() -> None:
    image = b'"' + b"A" * 1_000_000 + b'"'
    spelt = PLAIN.replace(b'"hi"', image).replace(b":", b": ")
    kong, found = chat(FakeKong(body=spelt))
    assert isinstance(found, ChatRequest)
    assert kong.sent_body is None
    kong, found = chat(FakeKong(body=spelt[:-1] + b',"stream":null}'))
    assert isinstance(found, Refusal)
    assert (found.reason, kong.sent_body) == (Reason.TOO_LARGE, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=a"},
        {"Content-Type": ["application/json", "text/plain"]},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": ["identity", "br"]},
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_kong_would_not_read_as_json_is_refused_whatever_is_set(headers: Any, strict: bool) -> None:
    def work(host: Host) -> None:
        found = host.chat_request()
        assert isinstance(found, Refusal)
        host.refuse_unread(found, strict=strict)

    kong, _ = run(work, FakeKong(body=PLAIN, headers=headers))
    assert kong.exit is not None
    assert (kong.exit.status, kong.exit.json["error"]["code"]) == (415, "unsupported_media_type")
    assert "request.get_raw_body" not in kong.methods()


@pytest.mark.parametrize(("strict", "status"), [(True, 400), (False, None)])
def test_what_is_no_json_is_refused_or_passes_unread(strict: bool, status: int | None) -> None:
    def work(host: Host) -> None:
        found = host.chat_request()
        assert isinstance(found, Refusal)
        host.refuse_unread(found, strict=strict)

    kong, _ = run(work, FakeKong(body=b"{"))
    assert (kong.exit.status if kong.exit else None) == status
    assert kong.sent_body is None


def test_a_requests_id_is_found_after_its_header_is_gone() -> None:
    def of(name: str, kong: FakeKong) -> Any:
        return run(lambda host: host.request_id("X-Request-ID"), kong, name)[1][0]

    noted = {"tenantgate_correlation": "r-2"}
    assert of("access", FakeKong(headers={"x-request-id": "r-1"}, shared=noted)) == "r-1"
    assert of("access", FakeKong(shared=noted)) is None
    assert of("log", FakeKong(shared=noted)) == "r-2"
    assert of("log", FakeKong()) is None


@pytest.mark.parametrize(("given", "found"), [("0f" * 16, "0f" * 16), (b"0f", "0f"), (None, ""), (7, "")])
def test_the_request_s_id_is_a_text(given: Any, found: str) -> None:
    kong, seen = run(lambda host: host.identifier(), FakeKong(answers={"kong.nginx.get_var": given}))
    assert seen == [found]
    assert kong.calls == [("kong.nginx.get_var", "kong_request_id")]


def test_this_host_keeps_no_body() -> None:
    kong, seen = run(lambda host: (host.keep_body(), host.kept_body()), FakeKong(body=b"{}"))
    assert (seen, kong.calls) == ([(False, None)], [])


def test_a_text_is_shared_with_lua() -> None:
    kong, _ = run(lambda host: host.share("tenantgate_route", "llm.openai.gpt-4o.acme"))
    assert kong.shared == {"tenantgate_route": "llm.openai.gpt-4o.acme"}
    assert kong.methods() == ["ctx.shared.set"]
