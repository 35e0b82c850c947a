"""A request goes from provider to provider until one answers, and each gets its own request alone.

The mock provider stands for four, each on a port of its own, in their own formats and with their own keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tenantgate.devhost import mock_formats
from tenantgate.devhost.client import Client, Reply
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import FAILURES, ModelPolicy, Routing, Target, read_record, write_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e

TENANT = "failing"
A, B, C, D = "abcd"
FORMATS = {A: "openai", B: "anthropic", C: "gemini", D: "openai"}
HEADERS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
OPERATIONS = {False: "generateContent", True: "streamGenerateContent"}
BODIES = {
    "openai": {"messages", "model", "stream"},
    "anthropic": {"messages", "model", "max_tokens", "stream"},
    "gemini": {"contents", "generationConfig"},
}
SENT = {
    "accept", "accept-encoding", "anthropic-version", "connection", "content-length", "content-type", "host",
    "user-agent",
}  # fmt: skip
# A wait that a provider asks for would leave it out of the next tests: here they ask for none.
USUAL = Routing(max_fails=0, retries=3)
DARING = replace(USUAL, failover_criteria=tuple(FAILURES))
# Times are for providers that hang; in no other test does one come to pass.
ROUTINGS = {
    "daring": DARING,
    "impatient": replace(DARING, ttft_ms=800),
    "short": replace(USUAL, streaming_total_ms=300, non_streaming_total_ms=300),
    "brief": replace(DARING, streaming_total_ms=1500),
}


def key(name: str) -> str:
    return f"key-of-{name}"


@dataclass(frozen=True)
class World:
    """The gateway, and the four providers' ports by name."""

    gateway: Gateway
    ports: dict[str, int]

    @property
    def mock(self) -> Any:
        return self.gateway.stack

    def ask(self, model: str, *, stream: bool = False) -> Reply:
        """One question that nobody asked before."""
        return self.client.chat(self.gateway.fresh(), stream=stream, model=model + ("~" if stream else ""))

    @property
    def client(self) -> Client:
        return self.gateway.endpoint(TENANT)

    @contextmanager
    def failing(self, **how: dict[str, Any] | str) -> Iterator[None]:
        """Providers by name that fail so; ``refuse``: their ports do."""
        rules = [{"port": self.ports[name], **rule} for name, rule in how.items() if isinstance(rule, dict)]
        with ExitStack() as stack:
            stack.enter_context(self.mock.mock_rules(*rules))
            for name, rule in how.items():
                if rule == "refuse":
                    stack.enter_context(self.mock.mock_refuses(self.ports[name]))
            yield

    def asked(self) -> str:
        """The providers that were asked, in order; each was sent its own request and nothing of another's."""
        names = {port: name for name, port in self.ports.items()}
        found = self.mock.mock_requests()
        for record in found:
            self._is_its_own(record, names[record["port"]])
        assert len({record["question"] for record in found}) <= 1
        return "".join(names[record["port"]] for record in found)

    def _is_its_own(self, record: dict[str, Any], name: str) -> None:
        form = FORMATS[name[0]]
        credential = key(name) if form != "openai" else f"Bearer {key(name)}"
        hashed = hashlib.sha256(credential.encode()).hexdigest()
        assert record["credentials"] == {HEADERS[form]: hashed}
        assert record["host"].rpartition(":")[2] == str(record["port"])
        path = PATHS.get(form, f"/v1beta/models/model-{name}:{OPERATIONS[record['stream']]}")
        assert (record["path"], record["model"]) == (path, f"model-{name}")
        headers = {header.lower() for header in record["headers"]}
        assert headers <= SENT
        assert ("anthropic-version" in headers) is (form == "anthropic")
        body = json.loads(base64.b64decode(record["body"]))
        assert body.keys() == BODIES[form] - ({"max_tokens"} if form == "openai" else set())


@pytest.fixture(scope="module")
def shared_world(gateway: Gateway) -> Iterator[World]:
    """The providers' ports, and a record of the tenant with their models, which has all of them."""
    state = gateway.stack.secrets_file.parent
    ports = {name: gateway.stack.mock_port() for name in (A, B, C, D)}
    ports |= {
        "a_tls": gateway.stack.mock_port(tls="localhost"),
        "a_wrong": gateway.stack.mock_port(tls="other.example"),
    }
    options = json.loads((state / "gateway.json").read_text())["options"]
    store = SqlitePolicyStore(Path(options["policy_path"]))
    before = dict(store.records(only=[TENANT]))[TENANT]
    policy = replace(read_record(TENANT, before), models=tuple(models(ports)))
    store.publish(
        {TENANT: write_record(policy)}, expected=store.head(), note=PublishNote("a test", "", time.time())
    )
    world = World(gateway, ports)
    until(lambda: world.ask("ready").status, lambda status: status == 200, what="status")
    yield world
    store.publish({TENANT: before}, expected=store.head(), note=PublishNote("a test", "", time.time()))
    store.close()


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    with shared_world.mock.mock_behaviour(keep_bodies=True):
        shared_world.mock.mock_forget()
        yield shared_world


def target(name: str, ports: dict[str, int], *, stream: bool = False, window: int | None = None) -> Target:
    form = FORMATS[name[0]]
    scheme, host = ("https", "localhost") if "_" in name else ("http", "127.0.0.1")
    path = PATHS.get(form, f"/v1beta/models/model-{name}:{OPERATIONS[stream]}")
    options: dict[str, Any] = {"upstream_url": f"{scheme}://{host}:{ports[name]}{path}"}
    if form == "anthropic":
        options |= {"anthropic_version": "2023-06-01", "max_tokens": 99}
    return Target(
        provider=form,
        name=f"model-{name}",
        id=f"{form}/{name}",
        options=options,
        header_name={"openai": "Authorization"}.get(form, HEADERS[form]),
        credential=key(name),
        bearer=form == "openai",
        context_window=window,
        accept_encoding="identity",
    )


def ours(target: Target) -> Target:
    """Translated by Lua of ours, as targets are that the compiler makes."""
    return replace(target, options={**target.options, "tenantgate": {"stream_usage": "asked"}})


def strict(form: str, port: int) -> Target:
    """At a mock that takes nothing but what the provider would take."""
    at = f"http://127.0.0.1:{port}/strict/{form}"
    made = Target(provider=form, name="anthropic.claude-v1:0", id=f"{form}/claude")
    if form == "anthropic":
        options = {"upstream_url": f"{at}/v1/messages", "anthropic_version": "2023-06-01"}
        return ours(replace(made, options=options, header_name="x-api-key", credential="k"))
    secrets = {"aws_access_key_id": mock_formats.AWS_KEY, "aws_secret_access_key": mock_formats.AWS_SECRET}
    options = {"upstream_url": at, "bedrock": {"aws_region": mock_formats.AWS_REGION}}
    return ours(replace(made, options=options, secrets=secrets))


def models(ports: dict[str, int]) -> Iterator[ModelPolicy]:
    """Each of them also as ``NAME~``, for streams: of Gemini these have URLs of their own."""
    for stream in (False, True):

        def at(name: str, window: int | None = None, *, stream: bool = stream) -> Target:
            return target(name, ports, stream=stream, window=window)

        chains = {
            "ready": [at(A)],
            **{order: [at(name) for name in order] for order in ("abcd", "bcda", "cdab", "dabc", "ab", "ba")},
            **{name: [at(A), at(B)] for name in ROUTINGS},
            "one": [at(A)],
            "larger": [at(A, 8192), at(D, 4096), at(B, 200_000)],
            "no-larger": [at(A, 8192), at(D, 8192)],
            "tls": [at("a_tls"), at(B)],
            "wrong-certificate": [at("a_wrong"), at(B)],
            "two-keys": [at(A), at(B), replace(at(A), id="openai/a#2")],
            **{f"to-{form}": [ours(at(A)), strict(form, ports[D])] for form in ("anthropic", "bedrock")},
        }
        for name, targets in chains.items():
            model = name + ("~" if stream else "")
            yield ModelPolicy(
                provider="tenantgate",
                model=model,
                route_name=f"llm.tenantgate.{model}.{TENANT}",
                targets=tuple(targets),
                routing=ROUTINGS.get(name, USUAL),
            )


def said(reply: Reply) -> str:
    """The answer's words. ai-proxy tells no reason for the end of some providers' streams."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return reply.text
    events = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n\n") if line]
    assert events.pop() == b"[DONE]"
    return "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)


def answered_by(reply: Reply) -> tuple[int, str | None, str | None]:
    assert not [name for name in reply.headers if name in ("x-tenantgate-status", "x-tenantgate-order")]
    return reply.status, reply.headers.get("x-tenantgate-target"), reply.headers.get("x-tenantgate-tries")


# -- which failures go on to the next provider


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "failure",
    [
        "refuse",
        *({"status": status} for status in (401, 403, 408, 429, 500, 503, 529)),
        {"status": 429, "headers": {"Retry-After": "0"}},
    ],
    ids=str,
)
def test_a_failure_that_costs_nothing_goes_on(world: World, failure: Any, stream: bool) -> None:
    with world.failing(a=failure):
        reply = world.ask("ab", stream=stream)
    assert answered_by(reply) == (200, "anthropic/b", "2")
    assert "mock answer" in said(reply)
    assert "retry-after" not in reply.headers
    assert world.asked() == ("b" if failure == "refuse" else "ab")


def test_embeddings_go_on_to_a_provider_that_has_them(world: World) -> None:
    """Of `abcd` the second and third speak another format."""
    client = world.gateway.endpoint(TENANT, "/v1/embeddings")
    with world.failing(a={"status": 429}):
        reply = client.send(json.dumps({"model": "abcd", "input": [world.gateway.fresh(), "more"]}).encode())
    assert answered_by(reply) == (200, "openai/d", "2")
    assert (len(reply.json["data"]), reply.json["model"]) == (2, "model-d")
    found = world.mock.mock_requests()
    assert [(r["port"], r["path"], r["model"]) for r in found] == [
        (world.ports[name], "/v1/embeddings", f"model-{name}") for name in (A, D)
    ]
    hashes = [hashlib.sha256(f"Bearer {key(name)}".encode()).hexdigest() for name in (A, D)]
    assert [r["credentials"] for r in found] == [{"authorization": h} for h in hashes]
    first, second = (json.loads(base64.b64decode(r["body"])) for r in found)
    assert {**first, "model": 0} == {**second, "model": 0}


def test_a_form_and_a_sound_go_through_the_hop_as_they_are(world: World) -> None:
    form = (
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nab\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\xfe\r\n--B--\r\n'
    )
    client = world.gateway.endpoint(TENANT, "/v1/audio/transcriptions")
    text = client.send(form, headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert (text.status, text.json) == (200, {"text": "A recording of 2 bytes."})
    client = world.gateway.endpoint(TENANT, "/v1/audio/speech")
    asked = json.dumps({"model": "ab", "input": "Hello", "voice": "v"}).encode()
    sound = client.send(asked)
    assert (sound.status, sound.headers["content-type"]) == (200, "audio/mpeg")
    assert sound.body == b"ID3\xff\xfeHello"
    with world.failing(a={"status": 500, "headers": {"X": "y"}}):
        failed = client.send(asked)
    assert (failed.status, failed.headers["content-type"]) == (500, "application/json; charset=utf-8")
    assert "error" in failed.json


UNCERTAIN = [
    ({"status": 502}, 502),
    ({"status": 504}, 504),
    ({"fault": "close_head"}, 502),
    ({"fault": "close_body"}, 502),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("failure", "status"), UNCERTAIN, ids=str)
def test_what_may_be_billed_goes_on_only_where_that_was_chosen(
    world: World, failure: Any, status: int, stream: bool
) -> None:
    with world.failing(a=failure):
        reply = world.ask("ab", stream=stream)
        assert answered_by(reply) == (status, "openai/a", "1")
        assert world.asked() == "a"
        world.mock.mock_forget()
        assert answered_by(world.ask("daring", stream=stream)) == (200, "anthropic/b", "2")
        assert world.asked() == "ab"


@pytest.mark.parametrize("fault", ["close_middle", "short"])
def test_a_plain_reply_that_breaks_off(world: World, fault: str) -> None:
    with world.failing(a={"fault": fault}):
        assert answered_by(world.ask("ab")) == (502, "openai/a", "1")
        world.mock.mock_forget()
        assert answered_by(world.ask("daring")) == (200, "anthropic/b", "2")


@pytest.mark.parametrize("broken", [{"fault": "long"}, {"malformed": True}], ids=str)
def test_a_plain_reply_that_is_no_json_is_like_none(world: World, broken: dict[str, Any]) -> None:
    """Paid for, and of no use."""
    with world.failing(a=broken):
        reply = world.ask("ab")
        assert (answered_by(reply), world.asked()) == ((502, "openai/a", "1"), "a")
        assert reply.json["error"]
        world.mock.mock_forget()
        assert answered_by(world.ask("daring")) == (200, "anthropic/b", "2")


@pytest.mark.parametrize("fault", ["hang_head", "hang_body"])
def test_a_provider_that_hangs(world: World, fault: str) -> None:
    with world.failing(a={"fault": fault}):
        assert answered_by(world.ask("short", stream=True)) == (504, "openai/a", "1")
        assert world.asked() == "a"
        world.mock.mock_forget()
        assert answered_by(world.ask("impatient", stream=True)) == (200, "anthropic/b", "2")
        assert world.asked() == "ab"
        world.mock.mock_forget()
        assert answered_by(world.ask("short")) == (504, "openai/a", "1")
        assert world.asked() == "a"


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_a_clients_own_error_stays_where_it_is(world: World, status: int) -> None:
    with world.failing(a={"status": status}):
        reply = world.ask("daring")
    assert answered_by(reply) == (status, "openai/a", "1")
    assert "told to fail" in reply.json["error"]["message"]
    assert world.asked() == "a"


def test_a_prompt_too_long_goes_to_a_larger_model_alone(world: World) -> None:
    with world.failing(a={"context_length": True}):
        assert answered_by(world.ask("larger")) == (200, "anthropic/b", "2")
        assert world.asked() == "ab"
        world.mock.mock_forget()
        reply = world.ask("no-larger")
        assert answered_by(reply) == (400, "openai/a", "1")
        assert reply.json["error"]["code"] == "context_length_exceeded"
        assert world.asked() == "a"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_gives_way_to_the_providers_other_key(world: World, status: int) -> None:
    with world.failing(a={"status": status, "times": 1}):
        assert answered_by(world.ask("two-keys")) == (200, "openai/a#2", "2")
    assert world.asked() == "aa"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("form", ["anthropic", "bedrock"])
def test_the_next_provider_gets_its_own_format_and_the_client_openais(
    world: World, form: str, stream: bool, request: pytest.FixtureRequest
) -> None:
    if form == "bedrock" and not request.config.getoption("--kong-bin"):
        pytest.skip("the embedded host doesn't sign for Amazon")
    body: dict[str, Any] = {"model": f"to-{form}", "messages": [{"role": "user", "content": "Hi"}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}, "model": f"to-{form}~"}
    with world.failing(a={"status": 503}):
        reply = world.client.send(json.dumps({**body, "stop": "x"}).encode())
    assert answered_by(reply) == (200, f"{form}/claude", "2")
    events = [json.loads(line[6:]) for line in reply.body.split(b"\n") if line.startswith(b"data: {")]
    last = events[-1] if stream else reply.json
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
    parts = [c["delta"].get("content") or "" for e in events for c in e["choices"]]
    assert ("".join(parts) if stream else reply.text) == mock_formats.TEXT


# -- TLS, redirects


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_certificate_of_another_name(world: World, stream: bool) -> None:
    assert answered_by(world.ask("tls", stream=stream)) == (200, "openai/a_tls", "1")
    world.mock.mock_forget()
    assert answered_by(world.ask("wrong-certificate", stream=stream)) == (200, "anthropic/b", "2")
    assert world.asked() == "b"


def test_redirects_arent_followed(world: World) -> None:
    location = f"http://127.0.0.1:{world.ports[B]}/v1/messages"
    with world.failing(a={"fault": "redirect", "location": location}):
        reply = world.ask("daring")
    assert (reply.status, "location" in reply.headers) == (502, False)
    assert world.asked() == "a"


# -- chains


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("order", ["abcd", "bcda", "cdab", "dabc"])
def test_the_fourth_answers(world: World, order: str, stream: bool) -> None:
    failures: list[Any] = [{"status": 500}, {"status": 429, "headers": {"Retry-After": "0"}}, {"status": 529}]
    with world.failing(**dict(zip(order, failures, strict=False))):
        reply = world.ask(order, stream=stream)
    last = order[-1]
    assert answered_by(reply) == (200, f"{FORMATS[last]}/{last}", "4")
    assert "mock answer" in said(reply)
    assert world.asked() == order


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_where_all_fail_the_client_is_told_of_the_last(world: World, stream: bool) -> None:
    limited = {"status": 429, "headers": {"Retry-After": "0"}}
    with world.failing(a={"status": 500}, b={"status": 401}, c="refuse", d=limited):
        reply = world.ask("abcd", stream=stream)
    assert answered_by(reply) == (429, "openai/d", "4")
    assert reply.headers["retry-after"] == "0"
    assert reply.json["error"]["code"] == "rate_limit_exceeded"
    assert world.asked() == "abd"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_real_503_of_the_last_one_reaches_the_client(world: World, stream: bool) -> None:
    with world.failing(a={"status": 503}, b={"status": 503}):
        assert answered_by(world.ask("ab", stream=stream)) == (503, "anthropic/b", "2")
        assert answered_by(world.ask("one", stream=stream)) == (503, "openai/a", "1")


def test_where_nobody_listens(world: World) -> None:
    with world.failing(a="refuse", b="refuse"):
        reply = world.ask("ab")
    assert answered_by(reply) == (502, "anthropic/b", "2")
    assert world.asked() == ""


# -- after the first byte


@pytest.mark.parametrize(
    ("model", "fault", "first"),
    [
        ("daring", "close_middle", A),
        ("brief", "hang_middle", A),
        ("ba", "close_middle", B),
        ("cdab", "close_middle", C),
    ],
)
def test_a_stream_that_breaks_off_ends_with_an_error(
    world: World, model: str, fault: str, first: str
) -> None:
    with world.failing(**{first: {"fault": fault}}):
        reply = world.ask(model, stream=True)
    assert answered_by(reply) == (200, f"{FORMATS[first]}/{first}", "1")
    assert world.asked() == first
    lines = [line for line in reply.body.split(b"\n\n") if line]
    assert b"mock" in reply.body
    assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["code"] == "bad_gateway"
    assert b"[DONE]" not in reply.body


def test_a_stream_shorter_than_announced_is_whole_up_to_its_end_mark(world: World) -> None:
    with world.failing(a={"fault": "short"}):
        reply = world.ask("daring", stream=True)
    assert answered_by(reply) == (200, "openai/a", "1")
    *_, done, error = [line for line in reply.body.split(b"\n\n") if line]
    assert done == b"data: [DONE]"
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "bad_gateway"


@pytest.mark.parametrize("fault", ["slow", ""])
def test_a_slow_stream_is_none_that_breaks_off(world: World, fault: str) -> None:
    with world.failing(a={"chunk_ms": 5.0} if fault else {}):
        reply = world.ask("daring", stream=True)
    assert answered_by(reply) == (200, "openai/a", "1")
    assert "only pretends to think." in said(reply)
    assert world.asked() == "a"
