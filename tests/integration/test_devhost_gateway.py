"""The embedded gateway over real sockets: a scripted plugin server on one side, the mock provider on the other."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from devhost_rig import JSON, World, plays, record

from support import until


@pytest.fixture(scope="module")
def only_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("w"))
    yield made
    made.close()


@pytest.fixture
def world(only_world: World) -> Iterator[World]:
    only_world.plugins.scripts = {}
    only_world.plugins.configs = []
    only_world.plugins.methods = []
    yield only_world
    only_world.plugins.scripts = {}
    only_world.plugins.refuse_start = only_world.plugins.mute = False


def words(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def events(body: bytes) -> list[Any]:
    lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# -- the way through


def test_a_request_reaches_the_provider_with_its_credential_alone(world: World) -> None:
    status, headers, body = world.chat(text="What is seven?", headers={"Authorization": "Bearer mine"})
    assert status == 200
    assert "What is seven?" in words(body)
    assert headers["x-kong-llm-model"] == "openai/m1"
    assert {
        "via",
        "x-kong-upstream-latency",
        "x-kong-proxy-latency",
        "x-kong-request-id",
        "x-id",
    } <= headers.keys()
    seen = world.provider.ledger.records[-1]
    assert seen["model"] == "m1"
    assert seen["headers"]["X-Consumer-Custom-ID"] == "a"
    assert "provider-secret" not in json.dumps(seen)
    assert "mine" not in json.dumps(seen["headers"])


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        ("/chat", {"apikey": ""}, 401, "No API key found in request"),
        ("/chat", {"apikey": "wrong"}, 401, "Unauthorized"),
        ("/chat", {"apikey": "other"}, 403, "You cannot consume this service"),
        ("/nowhere", {}, 404, "no Route matched with those values"),
        ("/small", {}, 413, "Request size limit exceeded"),
    ],
)
def test_refusals_have_kongs_form(
    world: World, path: str, headers: dict[str, str], status: int, message: str
) -> None:
    got, names, body = world.send(path, b"x" * 1025, headers)
    assert (got, json.loads(body)) == (status, {"message": message, "request_id": names["x-kong-request-id"]})
    assert "x-kong-response-latency" in names
    assert "via" not in names


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        (b"hello", "/bare", "request body doesn't contain valid prompts"),
        (b'{"messages": [], "x": 1}', "/bare", "request body doesn't contain valid prompts"),
        (b'{"messages": ["a"], "model": "m2"}', "/bare", "cannot use own model - must be: m1"),
        (
            b'{"prompt": "a"}',
            "/bare",
            "[llm/v1/completions] message format is not compatible with [llm/v1/chat] route type",
        ),
        (b'{"prompt": "a", "messages": ["a"]}', "/bare", "request matches multiple LLM request formats"),
        (b'{"messages": ["a"], "stream": true}', "/deny", "response streaming is not enabled for this LLM"),
    ],
)
def test_ai_proxy_refuses_as_kongs_does(world: World, body: bytes, path: str, message: str) -> None:
    status, _, got = world.send(path, body)
    assert (status, json.loads(got)) == (400, {"error": {"message": message}})


def test_a_message_that_lua_cant_index_is_a_500(world: World) -> None:
    status, _, body = world.send("/bare", b'{"messages": [1]}')
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_a_megabyte_passes_both_ways(world: World) -> None:
    answers = plays(world, ("kong.request.get_raw_body", []))
    status, _, body = world.chat(text="word " * 250_000)
    assert (status, len(answers[0]) > 1_250_000) == (200, True)
    assert "word word" in words(body)


# -- streams


def test_a_stream_flows_and_its_log_has_the_assembled_text(world: World) -> None:
    told = world.records()
    with world.behaviour(chunk_ms=2):
        status, headers, body = world.chat("/whole", stream=True)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events(body))
    proxy = record(told, headers)["ai"]["proxy"]
    logged = json.loads(proxy["payload"]["response"])
    assert logged["choices"][0]["message"]["content"] == text
    assert logged["object"] == "chat.completion"
    assert proxy["usage"]["prompt_tokens"] == 4  # two words times 1.8: an estimate, as Kong's
    assert proxy["meta"] == {
        **proxy["meta"],
        "provider_name": "openai",
        "request_model": "m1",
        "response_model": "m1",
    }
    assert json.loads(proxy["payload"]["request"])["stream"] is True


def test_kong_repeats_a_streams_last_chunk_in_the_log_unless_told_otherwise(world: World) -> None:
    told = world.records()
    for path, times in (("/whole", 1), ("/chat", 2)):
        with world.behaviour(at_once=True):
            _, headers, body = world.chat(path, stream=True)
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events(body))
        logged = json.loads(record(told, headers)["ai"]["proxy"]["payload"]["response"])
        assert logged["choices"][0]["message"]["content"] == text * times, path


def test_the_reason_of_a_streams_end_is_noted(world: World) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def log() -> Generator[tuple[str, list[Any]], Any, None]:
        found = json.loads((yield "kong.log.serialize", []))
        told.put(found | {"reason": (yield "kong.ctx.shared.get", ["tenantgate_finish_reason"])})

    world.plugins.scripts["log"] = log
    with world.behaviour(finish_reason="length"):
        _, headers, _ = world.chat(stream=True)
    assert record(told, headers)["reason"] == "length"


def test_a_client_that_leaves_ends_the_request_and_is_logged_without_ai(world: World) -> None:
    told = world.records()
    body = json.dumps({"messages": [{"role": "user", "content": "long"}], "stream": True}).encode()
    with world.behaviour(chunk_ms=200):
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
        connection.request("POST", "/slow", body, JSON)
        response = connection.getresponse()
        assert response.read1(10)
        connection.close()
        found = record(told, {name.lower(): value for name, value in response.getheaders()})
    assert found["response"]["status"] == 200
    assert "ai" not in found


# -- plugins in their server


def test_what_a_plugin_sets_reaches_client_and_provider(world: World) -> None:
    body = {"messages": [{"role": "user", "content": "rewritten"}]}
    for stream in (False, True):
        plays(
            world,
            ("kong.response.set_headers", [{"X-Cache-Status": "Miss", "X-N": 3}]),
            ("kong.service.request.set_raw_body", [json.dumps({**body, "stream": stream}).encode()]),
        )
        status, headers, got = world.chat()
        assert (status, headers["x-cache-status"], headers["x-n"]) == (200, "Miss", "3")
        assert b"rewritten" in got


def test_a_plugin_is_told_what_kong_tells(world: World) -> None:
    answers = plays(
        world,
        ("kong.client.get_consumer", []),
        ("kong.request.get_headers", []),
        ("kong.request.get_query", []),
        ("kong.request.get_header", ["X-ODD"]),
        ("kong.request.get_header", ["nope"]),
        ("kong.router.get_route", []),
        ("kong.nonsense", []),
        ("kong.ctx.shared.set", ["mark", {"a": []}]),
        ("kong.ctx.shared.get", ["mark"]),
    )
    world.chat("/chat?a=1&a=2&b", headers={"X-Odd": b"caf\xe9".decode("latin-1")})
    consumer, headers, query, odd, nope, found, nonsense, _, mark = answers
    assert (consumer["custom_id"], found["name"]) == ("a", "chat")
    assert (headers["x-odd"], odd) == (["caf\udce9"], "caf\udce9")
    assert query == {"a": ["1", "2"], "b": []}
    assert (nope, nonsense, mark) == (None, None, {"a": []})
    assert {"plugin.StepConsumer", "plugin.StepMultiMap", "plugin.StepRoute", "plugin.Step"} <= set(
        world.plugins.methods
    )
    assert world.provider.ledger.records[-1]["headers"]["X-Odd"] == "caf\\udce9"


def test_an_answer_of_a_plugin_passes_untouched_and_ends_the_phase(world: World) -> None:
    told = world.records()
    after = plays(
        world, ("kong.response.exit", [200, "data: {}\n\n", {"Content-Type": "text/event-stream"}]), ("x", [])
    )
    before = world.provider.ledger.summary()["total"]
    status, headers, body = world.chat(stream=True)
    assert (status, headers["content-type"], body) == (200, "text/event-stream", b"data: {}\n\n")
    assert (after, world.provider.ledger.summary()["total"]) == ([], before)
    meta = record(told, headers)["ai"]["proxy"]["meta"]
    assert (meta["provider_name"], meta["request_model"]) == ("UNSPECIFIED", "UNSPECIFIED")


def test_the_log_phase_sees_what_was_saved(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    answers = plays(
        world,
        ("kong.response.get_status", []),
        ("kong.response.get_header", ["x-a"]),
        ("kong.response.get_source", []),
        ("kong.request.get_header", ["apikey"]),
        ("kong.client.get_consumer", []),
        phase="log",
    )
    world.chat()
    until(lambda: len(answers), lambda n: n == 5, what="answers in log")
    assert [*answers[:4], answers[4]["custom_id"]] == [200, "1", "service", "k", "a"]


@pytest.mark.parametrize(
    "method", ["kong.request.get_raw_body", "kong.request.get_method", "kong.response.exit"]
)
def test_what_a_timer_cant_do_is_never_answered_in_log(world: World, method: str) -> None:
    world.log.write_text("")
    answers = plays(world, (method, [200]), phase="log")
    assert world.chat()[0] == 200
    until(world.log.read_text, lambda t: "lua entry thread aborted" in t, what="error log")
    assert answers == []


@pytest.mark.parametrize(
    "step",
    [
        ("kong.response.exit", ["no number"]),
        ("kong.service.response.get_raw_body", []),
        ("kong.response.get_raw_body", []),
    ],
)
def test_misuse_is_a_500(world: World, step: tuple[str, list[Any]]) -> None:
    plays(world, step)
    status, _, body = world.chat()
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_a_restarted_server_gets_new_instances(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    assert world.chat()[1]["x-a"] == "1"
    world.plugins.instances.clear()
    world.plugins.methods.clear()
    assert world.chat()[1]["x-a"] == "1"
    # The log event of the first request may still come in between, and wants an instance as well.
    first = world.plugins.methods.index("plugin.StartInstance")
    assert "plugin.HandleEvent" in world.plugins.methods[:first]
    assert "plugin.HandleEvent" in world.plugins.methods[first:]


def test_a_server_that_hangs_is_passed_by(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    assert world.chat()[1]["x-a"] == "1"
    world.plugins.mute = True
    status, headers, _ = world.chat()
    assert (status, headers.get("x-a")) == (200, None)


def test_no_instance_is_a_500(world: World) -> None:
    world.plugins.instances.clear()
    world.plugins.refuse_start = True
    status, _, body = world.chat()
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_without_the_guards_mark_the_route_is_closed(world: World) -> None:
    status, headers, body = world.chat("/closed")
    assert (status, headers["content-type"], body) == (503, "application/json", b'{"error":"no verdict"}')
    plays(world, ("kong.ctx.shared.set", ["guard", "pass"]))
    assert world.chat("/closed")[0] == 200


# -- replies that are buffered


def test_a_response_phase_sees_the_whole_reply(world: World) -> None:
    answers = plays(
        world,
        ("kong.service.response.get_raw_body", []),
        ("kong.service.response.get_status", []),
        ("kong.response.set_header", ["X-R", "1"]),
        phase="response",
    )
    status, headers, body = world.chat("/buffer", stream=True)
    assert (status, headers["x-r"], answers[1]) == (200, "1", 200)
    assert answers[0].startswith(b"data: ")
    assert events(body)


def test_a_response_phase_may_replace_the_reply(world: World) -> None:
    plays(world, ("kong.response.exit", [451, "blocked"]), phase="response")
    status, _, body = world.chat("/buffer")
    assert (status, body) == (451, b"blocked")


def test_access_may_undo_the_buffering(world: World) -> None:
    plays(world, ("kong.nginx.set_ctx", ["buffered_proxying", False]))
    seen = plays(world, ("kong.service.response.get_status", []), phase="response")
    assert world.chat("/buffer", stream=True)[0] == 200
    assert seen == []


# -- providers that fail


def test_a_provider_that_isnt_there_is_a_502(world: World) -> None:
    told = world.records()
    status, headers, body = world.chat("/dead")
    assert (status, json.loads(body)["message"]) == (
        502,
        "An invalid response was received from the upstream server",
    )
    assert [t["code"] for t in record(told, headers)["tries"]] == [502, 502]


def test_a_provider_that_is_silent_is_a_504(world: World) -> None:
    with world.behaviour(latency_ms=5000):
        status, _, body = world.chat("/bare", stream=True)
    assert (status, json.loads(body)["message"]) == (504, "The upstream server is timing out")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_providers_error_passes(world: World, status: int) -> None:
    with world.behaviour(status=status):
        got, _, body = world.chat("/bare")
    assert (got, json.loads(body)["error"]["message"]) == (status, "the mock provider was told to fail")


def test_a_reply_that_isnt_one_is_a_500_that_says_so(world: World) -> None:
    with world.behaviour(malformed=True):
        status, _, body = world.chat("/bare")
    told = "transformation failed from type openai://llm/v1/chat: failed to decode llm/v1/chat response"
    assert (status, json.loads(body)) == (500, {"error": {"message": told}})


def test_a_stream_that_breaks_off_breaks_off_for_the_client(world: World) -> None:
    with world.behaviour(close_after=3), pytest.raises((http.client.IncompleteRead, ConnectionError)):
        world.chat("/bare", stream=True)


def test_the_status_port_says_when_it_is_ready(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.status_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/status/ready")
        assert connection.getresponse().status == 200
