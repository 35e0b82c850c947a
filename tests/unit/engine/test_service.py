"""The engine's phases against a scripted Kong, with real stages that need no Redis and no model."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from scripted_engine import BLOCK, PATIENT, Plugin, access, ask, model, packed, plugin
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import DECISION, LOG, REQUEST
from tenantgate.engine.items import ItemStore
from tenantgate.engine.manifest import ENGINE
from tenantgate.kong import TenantPlugin
from tenantgate.kong.instances import Instances
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.policy.core.records import Blocked, ModelPolicy, Routing, Target
from tenantgate.routing.core.order import Why
from tenantgate.routing.core.switches import Switch
from tenantgate.routing.service import Choice

from support import until


def test_a_request_costs_two_calls_and_gets_a_target() -> None:
    kong = access(plugin(), packed(ask()))
    assert kong.methods() == ["ctx.shared.get", "ctx.shared.set"]
    decision = kong.shared[DECISION]
    assert decision["target"] == {
        "provider": "openai",
        "name": "gpt-4o-mini",
        "options": {},
        "auth": {"header_name": "Authorization", "header_value": "{vault://env/KEY}", "bearer": True},
        "response_streaming": "allow",
        "log_payloads": False,
        "max_request_body_size": 4 << 20,
    }
    assert decision["shared"]["tenantgate_route"] == "llm.openai.gpt-4o-mini.acme"
    assert decision["fail_closed"] is False
    assert decision["reply_guard"] is False


@pytest.mark.parametrize("name", ["fast", "openai/gpt-4o-mini"])
def test_other_names_are_replaced_by_the_models_own(name: str) -> None:
    kong = access(plugin(), packed(ask(name)))
    assert json.loads(kong.shared[DECISION]["body"]) == ask("gpt-4o-mini")


def test_the_models_own_name_leaves_the_body_alone() -> None:
    raw = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'
    assert "body" not in access(plugin(), packed(raw)).shared[DECISION]


def test_a_large_body_is_renamed_by_kong() -> None:
    decision = access(plugin(), packed(ask("fast", text="x" * 1_200_000))).shared[DECISION]
    assert decision["upstream_model"] == "gpt-4o-mini"
    assert decision["model"] == "fast"
    assert "body" not in decision


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("gpt-9", 404, "model_not_found"),
        ("Fast", 404, "model_not_found"),
        ("gpt-4o", 403, "model_not_allowed"),
        ("openai/gpt-4o", 403, "model_not_allowed"),
        ("", 400, "invalid_request"),
        (None, 400, "invalid_request"),
        ("~catalog", 404, "model_not_found"),
    ],
)
def test_other_models(name: str | None, status: int, code: str) -> None:
    kong = access(plugin(others=frozenset({"gpt-4o", "openai/gpt-4o"})), packed(ask(name)))
    assert kong.exit is not None
    assert kong.exit.status == status
    error = kong.exit.json["error"]
    assert (error["code"], error["param"]) == (code, "model")
    assert "gpt-4o-mini" in error["message"]
    assert "fast" in error["message"]


@pytest.mark.parametrize(
    ("captures", "name", "status"),
    [
        ({"provider": "openai", "model": "gpt-4o-mini"}, None, None),
        ({"provider": "openai", "model": "gpt-4o-mini"}, "gpt-4o-mini", None),
        ({"provider": "openai", "model": "gpt-4o-mini"}, "fast", None),
        ({"provider": "openai", "model": "gpt-4o-mini"}, "other", 400),
        ({"provider": "groq", "model": "gpt-4o-mini"}, None, 404),
        ({"provider": "openai", "model": "gpt%2D4o-mini"}, None, None),
        ({"tenant": "acme", "provider": "openai", "model": "gpt-4o-mini"}, None, None),
        ({"tenant": "globex", "provider": "openai", "model": "gpt-4o-mini"}, None, 403),
    ],
)
def test_models_by_path(captures: dict[str, str], name: str | None, status: int | None) -> None:
    kong = access(plugin(), packed(ask(name), captures=captures))
    assert (kong.exit and kong.exit.status) == status
    if status is None:
        assert kong.shared[DECISION]["target"]["name"] == "gpt-4o-mini"


def test_the_list_of_models() -> None:
    kong = access(plugin(), packed(b"", method="GET", path="/v1/models"))
    assert kong.exit is not None
    assert kong.exit.status == 200
    found = kong.exit.json
    assert found["object"] == "list"
    assert [(m["id"], m["object"], m["owned_by"], m["root"]) for m in found["data"]] == [
        ("fast", "model", "openai", "gpt-4o-mini"),
        ("gpt-4o-mini", "model", "openai", "gpt-4o-mini"),
    ]
    one = access(plugin(), packed(b"", method="GET", path="/v1/models/fast"))
    assert one.exit is not None
    assert one.exit.json["id"] == "fast"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("gpt-4o-mini", True),
        ("openai/gpt-4o-mini", True),
        ("openai%2Fgpt-4o-mini", True),  # as OpenAI's SDKs write it
        ("openai%2fgpt%2D4o-mini", True),
        ("gpt-9", False),
        ("openai%252Fgpt-4o-mini", False),
        ("%00fast", False),
        ("%ff", False),
        ("fast/", False),
    ],
)
@pytest.mark.parametrize("captured", [True, False])
def test_one_model(written: str, found: bool, captured: bool) -> None:
    captures = {"model": written} if captured else []
    kong = access(plugin(), packed(b"", method="GET", path=f"/v1/models/{written}", captures=captures))
    assert kong.exit is not None
    if found:
        assert (kong.exit.status, kong.exit.json["root"]) == (200, "gpt-4o-mini")
    else:
        assert (kong.exit.status, kong.exit.json["error"]["code"]) == (404, "model_not_found")


def test_a_tenant_without_a_record_is_refused() -> None:
    kong = access(plugin(), packed(ask(), tenant="unknown"))
    assert kong.exit is not None
    assert kong.exit.status == 403


@pytest.mark.parametrize(
    ("blocked", "status", "code"),
    [(Blocked.DISABLED, 403, "tenant_disabled"), (Blocked.STALE, 503, "service_unavailable")],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_blocked_tenant_is_refused_whatever_it_asks(
    blocked: Blocked, status: int, code: str, method: str
) -> None:
    kong = access(plugin(blocked=blocked), packed(ask(), method=method))
    assert kong.exit is not None
    assert (kong.exit.status, kong.exit.json["error"]["code"]) == (status, code)
    assert ("retry-after" in kong.exit.headers) is (status == 503)
    assert "target" not in kong.shared[DECISION]


@pytest.mark.parametrize("table", [None, [], {}, {"tenant": ""}, {"tenant": 3}, "text"])
def test_without_a_packed_request_there_is_no_decision(table: Any) -> None:
    kong = FakeKong(shared={REQUEST: table}).run(plugin(), "access")
    assert DECISION not in kong.shared
    assert kong.exit is None


def test_a_body_that_cannot_be_read_names_no_model() -> None:
    kong = access(plugin(), packed(b"{"))
    assert kong.exit is not None
    assert kong.exit.json["error"]["code"] == "invalid_json"


def test_a_rule_that_blocks() -> None:
    what = plugin(model(stages={"guardrails": BLOCK}, fail_closed=True))
    kong = access(what, packed(ask(text="my key is AKIAIOSFODNN7EXAMPLE")))
    assert kong.exit is not None
    assert kong.exit.json["error"]["code"] == "content_policy_violation"
    assert kong.methods() == ["ctx.shared.get", "ctx.shared.set", "response.exit"]
    assert "target" not in kong.shared[DECISION], "the process may die before the answer"
    assert "tenantgate_tenant_guardrails" in kong.shared[DECISION]["shared"]
    clean = access(what, packed(ask()))
    assert clean.exit is None
    assert clean.shared[DECISION]["fail_closed"] is True


CARDS: dict[str, Any] = {
    "rules": [{"name": "cards", "detector": "personal_data", "kinds": ["CREDIT_CARD"], "mode": "block"}]
}


def events(*texts: str) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    return b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("status", [200, 201, 203, 400, 502])
@pytest.mark.parametrize(
    ("texts", "blocked"),
    [(["card 4111 1111 1111 1111"], True), (["card 4111 ", "1111 1111 ", "1111"], True), (["hello"], False)],
)
def test_a_rule_that_blocks_replies(texts: list[str], blocked: bool, status: int) -> None:
    stage = CARDS | PATIENT
    what = plugin(model(stages={"response_guardrails": stage}, fail_closed=True, reply_guard=True))
    kong = access(what, packed(ask(stream=True)))
    kong.status, kong.response_headers = status, {"content-type": "text/event-stream"}
    kong.answers |= {"kong.service.response.get_raw_body": events(*texts), "kong.response.clear_header": None}
    kong.run(what, "response")
    assert (kong.shared.get("tenantgate_reply_guard") == "pass") is not blocked
    assert (kong.exit is not None) is blocked
    if kong.exit is not None:
        assert kong.exit.status == (400 if status == 200 else status)
        assert kong.exit.json["error"]["code"] == "reply_policy_violation"


def test_a_stage_that_fails_answers_as_its_policy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("tenantgate.guard.service.Guard.access", fail)
    closed = access(plugin(model(stages={"guardrails": BLOCK})), packed(ask()))
    assert closed.exit is not None
    assert closed.exit.status == 503
    alert = {"rules": [{"name": "secrets", "detector": "secrets", "mode": "alert"}], "exemptions": False}
    assert access(plugin(model(stages={"guardrails": alert})), packed(ask())).exit is None


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load the detectors, which takes longer than a deadline on a busy machine."""
    what = plugin(model(stages={"guardrails": {"rules": [*BLOCK["rules"], *CARDS["rules"]], **PATIENT}}))
    until(lambda: access(what, packed(ask())).exit, lambda answer: answer is None, what="detectors")


CARD_RULE = {"name": "cards", "detector": "personal_data", "kinds": ["CREDIT_CARD"], "target": "reply"}


@pytest.mark.parametrize(
    ("status", "mode", "said", "answer", "mark"),
    [
        (200, "block", "4111 1111 1111 1111", 400, None),
        (200, "block", "nothing", None, "pass"),
        (200, "mask", "4111 1111 1111 1111", 200, None),
        (200, "alert", "4111 1111 1111 1111", None, "pass"),
        (429, "block", "4111 1111 1111 1111", 429, None),
        (429, "block", "nothing", None, "pass"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_is_held_back(
    status: int, mode: str, said: str, answer: int | None, mark: str | None, stream: bool
) -> None:
    rules = {"rules": [{**CARD_RULE, "mode": mode}], "exemptions": False}
    what = plugin(model(stages={"response_guardrails": rules}, fail_closed=True, reply_guard=True))
    kong = access(what, packed(ask(stream=stream)))
    kong.status = status
    if stream and status == 200:
        kong.response_headers = {"Content-Type": "text/event-stream"}
        pieces = [{"content": piece} for piece in said.split(" ")]
        chunks = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in pieces]
        raw = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    else:
        kong.response_headers = {"Content-Type": "application/json"}
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        raw = json.dumps(made if status == 200 else {"error": {"message": said}})
    kong.answers["kong.service.response.get_raw_body"] = raw.encode()
    kong.answers["kong.response.clear_header"] = None
    kong.run(what, "response")
    assert (None if kong.exit is None else kong.exit.status) == answer
    assert kong.shared.get("tenantgate_reply_guard") == mark
    assert kong.exit is None or b"1111" not in kong.exit.body


def test_an_unknown_stage_is_no_policy() -> None:
    kong = access(plugin(model(stages={"sorcery": {}})), packed(ask()))
    assert DECISION not in kong.shared
    assert kong.exit is None


def test_the_log_phase_gets_back_what_access_kept() -> None:
    what = plugin(model(stages={"guardrails": BLOCK}))
    decision = access(what, packed(ask())).shared[DECISION]
    table = {
        "request": {"tenant": "acme", "id": "ab" * 16},
        "decided": True,
        "state": decision["state"],
        "shared": decision["shared"],
        "source": "service",
        "status": 200,
    }
    kong = FakeKong(shared={LOG: table}).run(what, "log")
    assert kong.methods() == ["ctx.shared.get"]


class Loaded(TenantPlugin[EngineConfig], manifest=ENGINE):
    """As plugins/tenantgate.py has it."""


@pytest.mark.parametrize(("items", "kept"), [(b'[{"id":"msg_1"}]', [b'[{"id":"msg_1"}]']), (None, [])])
def test_the_log_phase_keeps_a_responses_items(
    items: bytes | None, kept: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(ItemStore, "keep", lambda _, tenant, output: found.append((str(tenant), output)))
    table = {"request": {"tenant": "acme"}, "decided": True, "state": [], "status": 200}
    FakeKong(shared={LOG: table if items is None else {**table, "items": items}}).run(plugin(), "log")
    assert found == [("acme", each) for each in kept]


def running(name: str) -> int:
    """How many threads have this name."""
    return sum(thread.name == name for thread in threading.enumerate())


def test_what_runs_in_the_background_runs_once_for_all_instances(tmp_path: Path) -> None:
    instances = Instances("tenantgate", Loaded, default=PhasePolicy())
    others = running("policy-directory"), running("policy-follower")

    def more(directories: int, followers: int) -> None:
        wanted = others[0] + directories, others[1] + followers
        until(
            lambda: (running("policy-directory"), running("policy-follower")), wanted.__eq__, what="threads"
        )

    def start(seq: int, **changes: Any) -> int:
        config = {
            "policy_path": str(tmp_path / "policy.sqlite"),
            "policy_store": "redis://127.0.0.1:1/0",
            "encryption_key": "k" * 32,
            "__plugin_id": "the one of the service",
            "__seq__": seq,
            **changes,
        }
        number = instances.start({"Name": "tenantgate", "Config": json.dumps(config)})["Id"]
        assert instances.get(number).plugin._service is not None  # as the first event does
        return int(number)

    first = start(1)
    more(1, 1)
    # Each worker of Kong after each POST /config; then it closes its one before.
    second, third = start(2), start(3)
    more(1, 1)
    instances.close(first)
    instances.close(second)
    more(1, 1)
    # A setting is another one.
    changed = start(4, deadline_ms=1000)
    more(2, 1)
    instances.close(third)
    more(1, 1)
    # So is the store; the engine of the other one isn't closed yet.
    moved = start(5, policy_store="redis://127.0.0.1:2/0")
    more(2, 1)
    instances.close(changed)
    more(1, 1)
    start(6, policy_store=None)
    more(2, 0)
    instances.close(moved)
    more(1, 0)
    instances.close_all()
    more(0, 0)


# -- several targets -------------------------------------------------------------------------------------


def routed(**changes: Any) -> ModelPolicy:
    """The model `smart`, alias `best`, with three targets."""
    given: dict[str, Any] = {
        "aliases": ("best",),
        "route_name": "llm.tenantgate.smart.acme",
        "targets": (
            Target(provider="openai", name="gpt-4o", id="openai/gpt-4o", context_window=128_000),
            Target(provider="openai", name="gpt-4o", id="openai/gpt-4o#2", credential="{vault://env/TWO}"),
            Target(provider="anthropic", name="claude", id="anthropic/claude"),
        ),
    }
    return model("smart", "tenantgate", routing=Routing(**changes.pop("routing", {})), **{**given, **changes})


def tried(what: Plugin, kong: FakeKong, *tries: tuple[str, str], **headers: str) -> None:
    """The log phase of a request, after these tries."""
    decision = kong.shared[DECISION]
    kong.shared[LOG] = {
        "request": {"tenant": "acme", "id": "ab" * 16},
        "state": decision["state"],
        "shared": decision["shared"],
        "source": "service",
        "status": 200,
        "decided": True,
        "tries": [
            {"target": t, "outcome": o, "status": 200, "ms": 20, "address": "192.0.2.1:443", "host": "h"}
            | {"limits": {name.replace("_", "-"): value for name, value in headers.items()} or []}
            for t, o in tries
        ],
    }
    kong.run(what, "log")


def ids(kong: FakeKong) -> list[str]:
    return [target["id"] for target in kong.shared[DECISION]["targets"]]


def test_a_model_with_several_targets_has_them_in_order() -> None:
    kong = access(plugin(routed(routing={"retries": 1, "ttft_ms": 7})), packed(ask("smart")))
    assert kong.methods() == ["ctx.shared.get", "ctx.shared.set"]
    decision = kong.shared[DECISION]
    assert ids(kong) == ["openai/gpt-4o", "openai/gpt-4o#2", "anthropic/claude"]
    assert [t.get("context_window") for t in decision["targets"]] == [128_000, None, None]
    assert decision["target"]["name"] == "gpt-4o"
    assert (decision["routing"]["retries"], decision["routing"]["ttft_ms"]) == (1, 7)
    assert decision["shared"]["tenantgate_route"] == "llm.tenantgate.smart.acme"


@pytest.mark.parametrize("name", ["smart", "best", "tenantgate/smart"])
def test_the_first_targets_name_is_written_by_kong(name: str) -> None:
    raw = json.dumps(ask(name), separators=(",", ":")).encode()
    decision = access(plugin(routed()), packed(raw)).shared[DECISION]
    assert decision["upstream_model"] == "gpt-4o"
    assert "body" not in decision
    assert decision["model"] == name


MASK: dict[str, Any] = {"rules": [{"name": "secrets", "detector": "secrets", "mode": "mask"}], **PATIENT}


def test_a_body_that_a_stage_has_changed_names_the_first_target() -> None:
    what = plugin(routed(stages={"guardrails": MASK}))
    decision = access(what, packed(ask("best", text="my key is AKIAIOSFODNN7EXAMPLE"))).shared[DECISION]
    body = json.loads(decision["body"])
    assert body["model"] == "gpt-4o"
    assert "AKIA" not in decision["body"].decode()
    assert "upstream_model" not in decision


def test_tries_teach_which_target_is_first() -> None:
    what = plugin(routed())
    for _ in range(3):
        kong = access(what, packed(ask("smart")))
        tried(what, kong, ("openai/gpt-4o", "http_500"), ("openai/gpt-4o#2", "ok"))
    assert ids(access(what, packed(ask("smart")))) == ["openai/gpt-4o#2", "anthropic/claude", "openai/gpt-4o"]
    kong = access(what, packed(ask("smart")))
    tried(what, kong, ("openai/gpt-4o#2", "http_429"), ("anthropic/claude", "ok"), retry_after="20")
    assert ids(access(what, packed(ask("smart")))) == ["anthropic/claude", "openai/gpt-4o"]


def test_where_all_are_left_out_one_is_tried_and_the_client_told_when_to_come_back() -> None:
    what = plugin(routed())
    every = ("openai/gpt-4o", "openai/gpt-4o#2", "anthropic/claude")
    for _ in range(3):
        tried(what, access(what, packed(ask("smart"))), *((target, "timeout") for target in every))
    kong = access(what, packed(ask("smart")))
    assert len(ids(kong)) == 1
    assert 1 <= kong.shared[DECISION]["routing"]["retry_after_s"] <= 13
    assert json.loads(kong.shared[DECISION]["shared"]["tenantgate_routing"]) == {"why": "last_resort"}


def test_a_provider_that_asks_to_wait_is_the_clients_503() -> None:
    what = plugin(routed(targets=(Target(provider="openai", name="m", id="openai/m"),)))
    tried(what, access(what, packed(ask("smart"))), ("openai/m", "http_529"), retry_after="17")
    kong = access(what, packed(ask("smart")))
    assert kong.exit is not None
    assert (kong.exit.status, kong.exit.headers["retry-after"]) in [(503, "17"), (503, "16")]
    assert kong.exit.json["error"]["code"] == "service_unavailable"
    assert "target" not in kong.shared[DECISION]
    assert json.loads(kong.shared[DECISION]["shared"]["tenantgate_routing"]) == {"why": "all_out"}


@pytest.mark.parametrize("several", [True, False])
def test_a_drained_model_is_refused(several: bool) -> None:
    what = plugin(routed() if several else model())
    switches = {
        scope: Switch(scope=scope, drained=True, reason="r", by="ann", created=1.0)
        for scope in ("openai", "anthropic")
    }
    what._engine._router.registry.go_by(switches)
    kong = access(what, packed(ask("smart" if several else "gpt-4o-mini")))
    assert kong.exit is not None
    assert (kong.exit.status, kong.exit.headers["retry-after"]) == (503, "30")


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stages of which one would answer where no provider can be asked, as the cache may."""

    def access(_self: Any, host: Any) -> None:
        host.set_headers({"X-Of": "the miss", "X-Other": "header"})
        host.stand_in(lambda: host.answer(200, b'{"spare":true}', {"X-Of": "the answer"}))

    monkeypatch.setattr("tenantgate.guard.service.Guard.access", access)
    return {"guardrails": BLOCK}


def served_spare(kong: FakeKong) -> bool:
    if kong.exit is None:
        return False
    headers = {name.lower(): value for name, value in kong.exit.headers.items()}
    return (kong.exit.status, kong.exit.json, headers.get("x-of"), headers.get("x-other")) == (
        200,
        {"spare": True},
        "the answer",
        "header",
    ) and "target" not in kong.shared[DECISION]


@pytest.mark.parametrize("several", [True, False])
def test_a_stage_answers_in_the_place_of_a_drained_model(several: bool, spare: dict[str, Any]) -> None:
    what = plugin(routed(stages=spare) if several else model(stages=spare))
    name = "smart" if several else "gpt-4o-mini"
    assert access(what, packed(ask(name))).exit is None
    switch = Switch(scope="all", drained=True, reason="r", by="ann", created=1.0)
    what._engine._router.registry.go_by({"all": switch})
    assert served_spare(access(what, packed(ask(name))))


def test_a_stage_answers_in_the_place_of_targets_that_all_fail(spare: dict[str, Any]) -> None:
    what = plugin(routed(stages=spare))
    every = ("openai/gpt-4o", "openai/gpt-4o#2", "anthropic/claude")
    for _ in range(3):
        tried(what, access(what, packed(ask("smart"))), *((target, "timeout") for target in every))
    # More often than requests may wait for a target that is left out: each is over at its end.
    for _ in range(6):
        kong = access(what, packed(ask("smart")))
        assert served_spare(kong)
        assert json.loads(kong.shared[DECISION]["shared"]["tenantgate_routing"]) == {"why": "last_resort"}
        tried(what, kong)


def test_a_tenant_that_has_had_its_share_gets_no_spare_answer(
    spare: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = plugin(routed(stages=spare))
    choice = Choice((), Why.OVER_SHARE, 3.0)
    monkeypatch.setattr(what._engine._router, "choose", lambda *_args, **_more: choice)
    kong = access(what, packed(ask("smart")))
    assert kong.exit is not None
    assert kong.exit.status == 429


def test_one_target_asked_directly_has_no_routing_and_leaves_nothing_for_the_log() -> None:
    decision = access(plugin(), packed(ask())).shared[DECISION]
    assert not {"targets", "routing"} & decision.keys()
    assert set(decision["state"]) == {"model"}
