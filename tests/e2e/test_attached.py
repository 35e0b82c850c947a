"""The plugins attached to routes of one's own, with the configurations that the documentation shows.

On the embedded host, or the Kong of --kong-bin. Each route has one plugin; the last one has all.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from attached_rig import PLUGINS, TOGETHER, Attached
from tenantgate.devhost.client import Reply

from support import until, whole_lines

pytestmark = pytest.mark.e2e

AUDIT, COMPRESSOR, GUARD, CACHE, REPLY_GUARD = PLUGINS
CARD, MAIL = "5555 5555 5555 4444", "attached.canary@example.com"
SECRET = "AKIA" + "ATTACHEDCANARY2X"
MEETING = "Summarise the decisions of this meeting.\n\n" + "\n".join(
    f"{speaker}: um so I was thinking that, you know, we could sort of have another look at item {n}, I mean, again."
    for n in range(20)
    for speaker in ("Maria", "Tom")
)
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade"}


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attached]:
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    with Attached(tmp_path_factory.mktemp("attached"), request.config.getoption("--kong-bin")) as made:
        yield made


def error(reply: Reply) -> Any:
    return reply.json["error"]["code"]


def record_of(world: Attached, reply: Reply) -> dict[str, Any]:
    """The audit record of the request that got this reply."""
    wanted = reply.headers["x-kong-request-id"]

    def found() -> list[dict[str, Any]]:
        records = [json.loads(line) for line in whole_lines(world.audit / "audit.jsonl")]
        return [r for r in records if r.get("request", {}).get("id") == wanted]

    (record,) = until(found, bool, what="record")
    return record


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", [CACHE, TOGETHER])
def test_the_cache_answers_a_repeated_question(world: Attached, route: str, stream: bool) -> None:
    client, question = world.client(route), f"What does part 7 cost? {stream}"
    first = client.chat(question, stream=stream)
    assert (first.status, first.cache) == (200, "Miss")
    hit = until(lambda: client.chat(question, stream=stream), lambda r: r.cache == "Hit", what="cache status")
    assert hit.text == first.text
    assert {"x-cache-key", "x-cache-ttl", "age"} <= hit.headers.keys()


def test_routes_share_no_answers(world: Attached) -> None:
    question = "How long is the warranty of part 8?"
    until(lambda: world.client(CACHE).chat(question), lambda r: r.cache == "Hit", what="cache status")
    assert world.client(TOGETHER).chat(question).cache == "Miss"


@pytest.mark.parametrize("route", [GUARD, TOGETHER])
def test_a_secret_in_a_request_is_refused(world: Attached, route: str) -> None:
    reply = world.client(route).chat(f"My key is {SECRET}")
    assert (reply.status, error(reply)) == (400, "content_policy_violation")


@pytest.mark.parametrize("route", [GUARD, TOGETHER])
def test_personal_data_is_masked_before_the_provider(world: Attached, route: str) -> None:
    with world.mock_behaviour(keep_bodies=True):
        world.mock_forget()
        assert world.client(route).chat(f"Write to {MAIL}, please").status == 200
        (body,) = world.mock_bodies()
    assert MAIL.encode() not in body
    assert b"[EMAIL_ADDRESS_1]" in body


@pytest.mark.parametrize("stream", [False, True])
def test_replies_are_masked_and_refused(world: Attached, stream: bool) -> None:
    client = world.client(REPLY_GUARD)
    masked = client.chat(f"Say {SECRET}", stream=stream)
    assert (masked.status, SECRET in masked.text) == (200, False)
    assert "[AWS_ACCESS_KEY" in masked.text
    refused = client.chat(f"Say {CARD}", stream=stream)
    assert (refused.status, error(refused)) == (400, "reply_policy_violation")
    assert "This is mock answer" in client.chat("Say nothing", stream=stream).text


def test_a_websockets_client_gets_no_unchecked_reply(world: Attached) -> None:
    """Kong leaves the response phase out for it, so the plugin sees nothing."""
    client, question = world.client(REPLY_GUARD), f"Say {SECRET}"
    refused = client.chat(question, stream=True, headers=WEBSOCKET)
    assert (refused.status, error(refused)) == (503, "guard_unavailable")
    assert SECRET not in refused.body.decode()
    with pytest.raises(
        http.client.RemoteDisconnected
    ):  # ai-proxy fails on a plain reply that isn't held back
        client.chat(question, headers=WEBSOCKET)


def test_it_is_the_pages_lua_that_refuses_it(world: Attached) -> None:
    client, question = world.client("open"), f"Say {SECRET}"
    assert SECRET in client.chat(question, stream=True, headers=WEBSOCKET).text
    assert SECRET not in client.chat(question, stream=True).text


@pytest.mark.parametrize("route", [COMPRESSOR, TOGETHER])
def test_a_prompt_is_compressed(world: Attached, route: str) -> None:
    client, numbers = world.client(route), iter(range(1000))
    # Until the vocabulary is loaded.
    reply = until(
        lambda: client.chat(f"{MEETING}\nTom: number {next(numbers)}."),
        lambda r: "x-compression-tokens-after" in r.headers,
        what="compressed",
    )
    before, after = (int(reply.headers[f"x-compression-tokens-{when}"]) for when in ("before", "after"))
    assert 0 < after < before
    assert reply.status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", [AUDIT, TOGETHER])
def test_a_request_has_its_audit_record(world: Attached, route: str, stream: bool) -> None:
    reply = world.client(route).chat(f"My address is {MAIL}, {route} {stream}", stream=stream)
    record = record_of(world, reply)
    assert (record["tenant"], record["outcome"], record["response"]["status"]) == ("acme", "answered", 200)
    content = json.dumps(record["content"])
    assert MAIL not in content
    assert "[EMAIL_ADDRESS_1]" in content
    assert content.count("This is mock answer") == 1
    assert record["gen_ai"]["usage"]["output_tokens"] > 0
    assert record["gen_ai"]["response"]["finish_reasons"] == ["stop"]


def test_what_the_other_plugins_did_is_in_the_record(world: Attached) -> None:
    blocked = record_of(world, world.client(TOGETHER).chat(f"My key is {SECRET}"))
    assert (blocked["outcome"], blocked["verdicts"]["guardrails"]["action"]) == ("blocked", "block")
    assert SECRET not in json.dumps(blocked)
    question = "Which parts are there?"
    client = world.client(TOGETHER)
    hit = until(lambda: client.chat(question), lambda r: r.cache == "Hit", what="cache status")
    assert record_of(world, hit)["outcome"] == "cached"


def test_who_has_no_key_is_refused_on_every_route(world: Attached) -> None:
    for route in (*PLUGINS, TOGETHER):
        assert world.client(route).chat("Hello", headers={"apikey": "nobody"}).status == 401


def test_a_plugin_that_sees_no_replies_says_so_once(world: Attached) -> None:
    client, name = world.client("payloadless"), "no reply in Kong's log record"
    question = "What does part 9 cost?"

    def asked() -> list[str]:
        assert client.chat(question).cache == "Miss"
        return world.events(name)

    (line,) = until(asked, bool, what="log line")
    assert CACHE in line
    assert "log_payloads" in line
    for _ in range(5):
        client.chat(question)
    # What this one says comes after what those could have said.
    until(lambda: world.client(CACHE).chat(question), lambda r: r.cache == "Hit", what="cache status")
    assert len(world.events(name)) == 1
