"""Requests in other formats as the stages, the decision and the log phase see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.engine import wire
from tenantgate.engine.core.tables import BODY_PART, Decision, PackedLog, PackedRequest
from tenantgate.engine.exchange import Exchange
from tenantgate.kong.host import MOST_SENT, Answered, Host
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import ChatRequest
from tenantgate.policy.core.records import Target
from tenantgate.tenant import TenantId

HI = [{"role": "user", "content": "Hi"}]
ASKED = {"model": "m", "max_tokens": 9, "messages": HI, "system": "Be brief."}
CHAT = {"model": "m", "max_tokens": 9, "messages": [{"role": "system", "content": "Be brief."}, *HI]}
JSON = {"content-type": "application/json"}


def read(
    body: Any, path: str = "/v1/messages", headers: dict[str, Any] | None = None, items: Any = None
) -> tuple[Exchange, Decision, PackedRequest]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    table = {"tenant": "acme", "path": path, "headers": JSON if headers is None else headers, "body": raw}
    packed = PackedRequest.of(table)
    assert packed is not None
    exchange, decision = Exchange(Host(None, "access", deadline_ms=60_000), packed), Decision()
    wire.read(exchange, packed, decision, items=items)
    return exchange, decision, packed


def test_stages_and_the_provider_get_a_chat() -> None:
    exchange, decision, _ = read({**ASKED, "metadata": {"user_id": "u"}}, path="/llm/v1/messages")
    request = exchange.chat_request()
    assert isinstance(request, ChatRequest)
    assert request.body == CHAT
    assert exchange.sent_body is not None
    assert json.loads(exchange.sent_body) == CHAT
    assert exchange.reply_headers == {"X-Tenantgate-Ignored": "metadata"}
    assert decision.state == {"format": "messages"}


def test_a_chat_is_left_alone() -> None:
    exchange, decision, _ = read(ASKED, path="/v1/chat/completions")
    assert (exchange.sent_body, decision.state, exchange.reply_headers) == (None, {}, {})


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"{", None, Reason.NOT_JSON),
        (b"\xff", None, Reason.NOT_UTF8),
        ({**ASKED, "container": "c"}, None, Reason.NOT_CHAT),
        ({**ASKED, "messages": HI * 2001}, None, Reason.TOO_LARGE),
        (ASKED, {"content-type": "text/plain"}, Reason.MEDIA_TYPE),
    ],
)
def test_what_cant_be_translated_is_refused(body: Any, headers: Any, reason: Reason) -> None:
    exchange, _, _ = read(body, headers=headers)
    found = exchange.chat_request()
    assert isinstance(found, Refusal)
    assert found.reason is reason
    assert exchange.sent_body is None


def test_a_count_is_answered_at_once() -> None:
    exchange, _, packed = read({"model": "m", "messages": HI}, path="/v1/messages/count_tokens")
    request = exchange.chat_request()
    with pytest.raises(Answered):
        wire.count_tokens(exchange, packed, request)
    assert exchange.answered == 200
    assert 1 <= json.loads(exchange.answer_body)["input_tokens"] < 10


def test_other_requests_arent_counted() -> None:
    exchange, _, packed = read(ASKED)
    wire.count_tokens(exchange, packed, exchange.chat_request())
    assert exchange.answered is None


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        ([("openai", {})], "max_completion_tokens"),
        ([("openai", {}), ("azure", {})], "max_completion_tokens"),
        ([("openai", {"upstream_url": "http://vllm"})], "max_tokens"),
        ([("openai", {}), ("anthropic", {})], "max_tokens"),
        ([("mistral", {})], "max_tokens"),
    ],
)
def test_the_word_for_the_limit_that_the_providers_know(targets: list[tuple[str, Any]], name: str) -> None:
    exchange, decision, packed = read(ASKED)
    made = [Target(provider=provider, name="m", options=options) for provider, options in targets]
    wire.adapt(exchange, packed, decision, made)
    request = exchange.chat_request()
    assert isinstance(request, ChatRequest)
    assert exchange.sent_body is not None
    assert json.loads(exchange.sent_body) == request.body
    assert {n for n in request.body if n.startswith("max")} == {name}


def test_a_chats_own_word_stays() -> None:
    exchange, decision, packed = read(CHAT, path="/v1/chat/completions")
    wire.adapt(exchange, packed, decision, [Target(provider="openai", name="m")])
    request = exchange.chat_request()
    assert isinstance(request, ChatRequest)
    assert request.body == CHAT


@pytest.mark.parametrize(
    ("providers", "native"),
    [(["anthropic"], True), (["anthropic"] * 2, True), (["anthropic", "openai"], False)],
)
def test_anthropic_gets_its_hints(providers: list[str], native: bool) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    exchange, decision, packed = read({**ASKED, "thinking": thinking})
    wire.adapt(exchange, packed, decision, [Target(provider=p, name="m") for p in providers])
    request = exchange.chat_request()
    assert isinstance(request, ChatRequest)
    assert request.body.get("thinking") == (thinking if native else None)
    assert exchange.reply_headers.get("X-Tenantgate-Ignored") == (None if native else "thinking")


def ended(state: dict[str, Any], body: bytes | None) -> PackedLog:
    request = {"tenant": "acme", **({} if body is None else {"body": body})}
    found = PackedLog.of({"request": request, "state": state})
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["messages", b"messages"])
def test_the_log_phase_reads_the_chat_that_the_stages_have_read(name: Any) -> None:
    found = wire.as_chat(ended({"format": name}, json.dumps(ASKED).encode()))
    assert found.body is not None
    assert json.loads(found.body) == CHAT


class Items:
    """A store that knows one item of one tenant."""

    def find(self, tenant: TenantId, ids: Any, waiting: Any = None) -> dict[str, Any]:
        del waiting
        item = {"id": "msg_1", "type": "message", "role": "assistant", "content": "Hello"}
        return {each: item for each in ids if (str(tenant), each) == ("acme", "msg_1")}


REFERRING = {"model": "m", "input": [*HI, {"type": "item_reference", "id": "msg_1"}, *HI]}
REFERRED = [*HI, {"role": "assistant", "content": "Hello"}, *HI]


def test_references_are_replaced_for_stages_provider_and_log_phase() -> None:
    items: Any = Items()
    exchange, decision, _ = read(REFERRING, path="/v1/responses", items=items)
    request = exchange.chat_request()
    assert isinstance(request, ChatRequest)
    assert request.body["messages"] == REFERRED
    assert exchange.sent_body is not None
    assert json.loads(exchange.sent_body)["messages"] == REFERRED
    found = wire.as_chat(ended(decision.state, json.dumps(REFERRING).encode()), items).body
    assert found is not None
    assert json.loads(found)["messages"] == REFERRED


@pytest.mark.parametrize(
    ("path", "body", "items", "keeps"),
    [
        ("/v1/responses", {"model": "m", "input": "Hi"}, Items(), True),
        ("/v1/responses", {"model": "m", "input": "Hi", "store": False}, Items(), False),
        ("/v1/responses", {"model": "m", "input": "Hi"}, None, False),
        ("/v1/responses", {"model": "m", "input": 5}, Items(), False),
        ("/v1/messages", ASKED, Items(), False),
        ("/v1/chat/completions", {"model": "m", "messages": HI}, Items(), False),
    ],
)
def test_what_the_log_phase_is_to_keep(path: str, body: Any, items: Any, keeps: bool) -> None:
    _, decision, _ = read(body, path=path, items=items)
    assert decision.keep_items is keeps
    assert decision.table(max_request_body_size=1).get("keep_items", False) is keeps


def test_without_a_store_references_are_refused() -> None:
    exchange, _, _ = read(REFERRING, path="/v1/responses")
    found = exchange.chat_request()
    assert isinstance(found, Refusal)
    assert found.param == "input[1]"


@pytest.mark.parametrize(
    ("state", "body", "made"),
    [
        ({}, b"x", b"x"),
        ({"format": "messages"}, None, None),
        ({"format": "messages"}, b"{", b""),
        ({"format": "something"}, b"x", b"x"),
        ({"format": 5}, b"x", b"x"),
    ],
)
def test_other_ends_of_requests(state: dict[str, Any], body: bytes | None, made: bytes | None) -> None:
    assert wire.as_chat(ended(state, body)).body == made


@pytest.mark.parametrize(("size", "parts"), [(0, 0), (MOST_SENT, 0), (MOST_SENT + 1, 2), (3 * MOST_SENT, 3)])
def test_a_large_body_goes_to_kong_in_parts(size: int, parts: int) -> None:
    body = bytes(i % 251 for i in range(size))
    decision = Decision(body=body, target=Target(provider="openai", name="m"))

    class Sender:
        policy = PhasePolicy(deadline_ms=60_000)

        @phase
        def access(self, host: Host) -> None:
            wire.send_body(host, decision)

    kong = FakeKong(shared={}).run(Sender(), "access")
    assert decision.body_parts == parts
    joined = b"".join(kong.shared[f"{BODY_PART}{i}"] for i in range(1, parts + 1))
    assert joined == (body if parts else b"")
