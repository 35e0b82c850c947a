"""Every request has its record, whatever became of it and of us, and nothing but the records' redacted text is left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from audit_rig import journal_line, request_id
from tenantgate.cli import main
from tenantgate.devhost.client import Client, Reply
from tenantgate.devhost.stack import Stack
from tenantgate.usage.core.entries import entries_of

from gateway import Gateway
from support import Load, until, whole_lines

pytestmark = pytest.mark.e2e

MAIL, CARD = "audit.canary@example.com", "5555 5555 5555 4444"
SECRET = "AKIA" + "AUD1TCANARY2XYZ3"


class Records:
    """The records that have come to the sink, by Kong's request id."""

    def __init__(self, gateway: Gateway) -> None:
        self._path = gateway.stack.audit_dir / "audit.jsonl"

    def all(self) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in whole_lines(self._path)]
        return [record for record in records if "request" in record]  # others tell of events

    def of(self, reply: Reply) -> dict[str, Any]:
        return self.by_id(reply.headers["x-kong-request-id"])

    def by_id(self, wanted: str | None) -> dict[str, Any]:
        found = until(
            lambda: [r for r in self.all() if r["request"].get("id") == wanted], bool, what="record"
        )
        assert len(found) == 1
        return found[0]


@pytest.fixture
def records(gateway: Gateway) -> Records:
    return Records(gateway)


def text_of(record: dict[str, Any]) -> str:
    return json.dumps(record["content"], ensure_ascii=False)


def test_why_a_request_was_blocked_is_found_by_the_clients_id_by_kongs_and_by_the_trace(
    gateway: Gateway, records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, trace = str(uuid.uuid4()), uuid.uuid4().hex
    reply = gateway.client("blocking").chat(
        f"Is {SECRET} a key?",
        headers={"X-Request-ID": sent, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    )
    assert reply.json["error"]["request_id"] == sent
    records.of(reply)
    log = str(gateway.stack.audit_dir / "audit.jsonl")
    for known in (sent, reply.headers["x-kong-request-id"], trace):
        capsys.readouterr()
        assert main(["audit", "find", known, log]) == 0
        told = capsys.readouterr().out
        assert "blocked" in told
        assert '"secrets"' in told
        assert SECRET not in told


def test_an_answer_and_its_repeat_from_the_cache(gateway: Gateway, records: Records) -> None:
    client, prompt = gateway.client("acme"), gateway.fresh()
    first = records.of(client.chat(prompt, user="ann@example.org"))
    assert (first["tenant"], first["outcome"], first["response"]["status"]) == ("acme", "answered", 200)
    assert len(first["end_user"]["hash"]) == 32
    assert "ann@" not in json.dumps(first)
    assert first["gen_ai"]["request"]["model"] == "mock-small"
    assert first["gen_ai"]["usage"]["output_tokens"] > 0
    assert prompt in text_of(first)
    assert "This is mock answer" in text_of(first)
    hit = records.of(
        until(
            lambda: client.chat(prompt, user="ann@example.org"),
            lambda r: r.cache == "Hit",
            what="cache status",
        )
    )
    assert hit["outcome"] == "cached"
    assert (hit["key"], hit["end_user"]) == (first["key"], first["end_user"])
    assert len(first["key"]["id"]) == 36, "Kong's id of the credential"
    asked, cached = (entries_of(one)[-1] for one in (first, hit))
    assert (asked.attempt, asked.cached, asked.tokens["output_tokens"] > 0) == (1, False, True)
    assert (cached.attempt, cached.cached, cached.tokens) == (0, True, {})


def test_a_stream_has_its_words_once(gateway: Gateway, records: Records) -> None:
    reply = gateway.client("acme").chat(gateway.fresh(), stream=True)
    found = records.of(reply)
    assert found["outcome"] == "answered"
    assert text_of(found).count("This is mock answer") == 1


@pytest.mark.parametrize("asked", [False, True])
def test_the_usage_of_a_stream_is_the_providers_and_only_who_asks_is_told(
    gateway: Gateway, records: Records, asked: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    body = {"stream": True, "messages": [{"role": "user", "content": gateway.fresh()}], **options}
    reply = gateway.client("plain").send(json.dumps(body).encode())
    chunks = [json.loads(line[6:]) for line in reply.body.decode().split("\n") if line.startswith("data: {")]
    text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    told = [chunk["usage"] for chunk in chunks if not chunk["choices"]]
    # The mock provider counts words; Kong would guess a quarter of the characters.
    words = len(text.split(" "))
    assert [usage["completion_tokens"] for usage in told] == ([words] if asked else [])
    used = records.of(reply)["gen_ai"]["usage"]
    assert used == {"input_tokens": len(body["messages"][0]["content"].split()), "output_tokens": words}


def test_a_stream_that_breaks_off_is_a_lower_bound(gateway: Gateway, records: Records) -> None:
    body = {"stream": True, "messages": [{"role": "user", "content": gateway.fresh()}]}
    client = gateway.client("plain")
    with gateway.stack.mock_behaviour(close_after=5), client.opened(json.dumps(body).encode()) as response:
        identifier = response.headers["x-kong-request-id"]
        with contextlib.suppress(http.client.IncompleteRead):
            response.read()
    used = records.by_id(identifier)["gen_ai"]["usage"]
    assert used == {"output_tokens": 5, "estimated": True, "lower_bound": True}


def test_a_client_that_leaves_in_the_middle_of_a_stream(gateway: Gateway, records: Records) -> None:
    client = gateway.client("acme")
    body = {"stream": True, "messages": [{"role": "user", "content": gateway.fresh()}]}
    with gateway.stack.mock_behaviour(chunk_ms=100), client.opened(json.dumps(body).encode()) as response:
        assert response.read1(1)
        identifier = response.headers["x-kong-request-id"]
        response.close()
    assert records.by_id(identifier)["outcome"] == "client_gone"


def test_what_never_reached_a_provider(gateway: Gateway, records: Records) -> None:
    acme = gateway.client("acme")
    strangers = Client(url=acme.url, key="nobody", model=acme.model)
    refused = records.of(strangers.chat("hello"))
    assert (refused["outcome"], refused["tenant"], refused["consumer"]) == ("unauthorized", "~unknown", None)
    assert records.of(gateway.client("acme", key_of="globex").chat("hello"))["outcome"] == "unauthorized"
    assert records.of(acme.send(b"not JSON"))["response"]["status"] == 400
    blocked = records.of(gateway.client("blocking").chat(f"my key is {SECRET}"))
    assert blocked["outcome"] == "blocked"
    assert blocked["verdicts"]["guardrails"]["action"] == "block"
    assert SECRET not in json.dumps(blocked)


def test_a_providers_error(gateway: Gateway, records: Records) -> None:
    with gateway.stack.mock_behaviour(status=500):
        reply = gateway.client("acme").chat(gateway.fresh())
    assert records.of(reply)["outcome"] == "upstream_error"


def test_content_is_redacted_and_only_allowed_headers_are_kept(gateway: Gateway, records: Records) -> None:
    body = json.dumps(
        {"messages": [{"role": "user", "content": f"{MAIL} paid with {CARD}, key {SECRET}"}]}
    ).encode()
    reply = gateway.client("plain").send(body, headers={"X-Team": f"blue {MAIL}", "X-Other": "green"})
    found = records.of(reply)
    whole = json.dumps(found)
    assert "[EMAIL_ADDRESS_" in text_of(found)
    assert not [c for c in (MAIL, CARD, SECRET, "green") if c in whole]
    assert "blue" in whole


def test_a_trace_goes_on(gateway: Gateway, records: Records) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = json.dumps({"messages": [{"role": "user", "content": gateway.fresh()}]}).encode()
    reply = gateway.client("acme").send(body, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    found = records.of(reply)["trace"]
    assert (found["trace_id"], found["parent_id"]) == (trace, "00f067aa0ba902b7")


def workers(stack: Stack) -> list[int]:
    """The worker of the gateway's folder, whichever plugin server has started it."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if b"tenantgate.audit.worker" in line and os.fsencode(stack.audit_dir) in line:
            found.append(int(process.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["worker", "server", "both"])
def test_no_record_is_lost_or_doubled_when_processes_are_killed(
    gateway: Gateway, records: Records, whom: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client, serving = gateway.client("acme"), gateway.serving()
    # The worker starts with the first request that a living plugin sees.
    until(lambda: client.chat(gateway.fresh()) and workers(gateway.stack), bool, what="worker")
    with Load(lambda n: client.chat(f"How many legs have {n} dogs?")) as load:
        for _ in range(1 if whom == "server" else 2):
            server = gateway.engines()
            worker = until(lambda: workers(gateway.stack), bool, what="worker")
            for pid in {"worker": worker, "server": server, "both": [*server, *worker]}[whom]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            load.after(20)
    assert not load.errors
    assert {r.status for r in load.replies} == {200}
    sent = {r.headers["x-kong-request-id"] for r in load.replies}

    def after_a_request() -> list[dict[str, Any]]:
        # The worker that runs now may be that of a server that is dead: it ends, and the next one starts with a request
        # that a living server sees. Which of those it is shows nowhere, so requests go on.
        client.chat(gateway.fresh())
        return records.all()

    found = until(
        after_a_request, lambda all_: sent <= {r["request"].get("id") for r in all_}, what="records"
    )
    # A sink may get a record twice, under the same id.
    assert len({r["id"] for r in found}) == len({r["request"].get("id") for r in found})
    capsys.readouterr()
    assert main(["audit", "verify", "--dir", str(gateway.stack.audit_dir)]) == 0, capsys.readouterr().out
    gateway.whole_again(serving)


@pytest.mark.slow
def test_after_a_restart_a_request_without_a_key_is_enough_to_deliver_what_was_left(
    gateway: Gateway, records: Records
) -> None:
    client = gateway.client("acme")
    until(lambda: client.chat(gateway.fresh()) and workers(gateway.stack), bool, what="worker")
    server, serving = gateway.engines(), gateway.serving()
    for pid in (*server, *workers(gateway.stack)):
        os.kill(pid, signal.SIGKILL)
    until(gateway.engines, lambda pids: bool(pids) and pids != server, what="plugin server")
    with (gateway.stack.audit_dir / "journal.jsonl").open("ab") as journal:
        journal.write(journal_line(0xFEED))  # Kong had written it when all ended
    nobody = Client(url=client.url, key="nobody", model=client.model)
    until(lambda: nobody.chat("hello") and workers(gateway.stack), bool, what="worker")
    (found,) = until(
        lambda: [r for r in records.all() if r["id"] == request_id(0xFEED)], bool, what="what was left"
    )
    assert found["content"]["state"] == "lost"
    gateway.whole_again(serving)


def test_the_commands_over_the_spool(
    gateway: Gateway, records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = gateway.client("globex").chat(gateway.fresh())
    identifier = records.of(reply)["id"]
    folder = ["--dir", str(gateway.stack.audit_dir)]
    capsys.readouterr()
    assert main(["audit", "tail", *folder, "-n", "5", "--tenant", "globex"]) == 0
    assert identifier in capsys.readouterr().out
    assert main(["audit", "reconcile", *folder, "--requests", "1"]) == 0
    assert "answered" in capsys.readouterr().out


def test_no_canary_is_left_anywhere(gateway: Gateway, records: Records) -> None:
    last = None
    for tenant in ("acme", "plain", "alerting", "masking", "compressing"):
        client = gateway.client(tenant)
        client.chat(f"{MAIL} {SECRET} {CARD}")
        client.chat(f"{MAIL} {SECRET}", stream=True)
        client.send(b'{"messages": [' + MAIL.encode())
        body = json.dumps(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": MAIL}]}]}
        ).encode()
        last = client.send(body, headers={"X-Request-ID": MAIL, "X-Secret": SECRET, "traceparent": MAIL})
        with gateway.stack.mock_behaviour(status=500):
            client.chat(f"{MAIL} {CARD}")
    assert last is not None
    records.of(last)
    canaries = (MAIL.encode(), SECRET.encode(), CARD.encode(), CARD.replace(" ", "").encode())
    stack = gateway.stack
    kept = (
        p for p in stack.audit_dir.rglob("*") if p.is_file() and p.suffix != ".new"
    )  # those become others
    files = [*stack.logs(), *kept]
    for path in files:
        content = path.read_bytes()
        assert not [c for c in canaries if c in content], path.name
    with gateway.redis() as store:
        for key in store.scan_iter(count=1000):
            raw = key + (store.dump(key) or b"")
            assert not [c for c in canaries if c in raw]


def test_operations_besides_chat(gateway: Gateway, records: Records) -> None:
    def ask(path: str, **body: Any) -> dict[str, Any]:
        client = gateway.endpoint("plain", path)
        return records.of(client.send(json.dumps({"model": client.model, **body}).encode()))

    vectors = ask("/v1/embeddings", input=[f"Mail {MAIL}", "and more"])
    assert vectors["outcome"] == "answered"
    assert vectors["gen_ai"]["operation"] == {"name": "embeddings"}
    assert vectors["gen_ai"]["usage"]["input_tokens"] == 4
    assert "and more" in text_of(vectors)
    assert MAIL not in text_of(vectors)
    assert "output_messages" not in vectors["content"]
    text = ask("/v1/completions", prompt=gateway.fresh())
    assert text["gen_ai"]["operation"] == {"name": "text_completion"}
    assert "Mock text after" in text_of(text)
    sound = ask("/v1/audio/speech", input="Hello there", voice="v")
    assert sound["outcome"] == "answered"
    assert "Hello there" in text_of(sound)
