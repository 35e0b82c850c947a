"""Open-loop load: each request is sent at its own time, whatever became of those before it.

A process of its own: ``python -m tenantgate.bench.load PLAN RESULTS``. The plan and the results are JSON (`Plan`,
`Shot`). A request that could not be sent in time because the machine was busy still counts from the time at which
it was meant to be sent, so that a gateway that stalls can't hide behind a client that waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenantgate.errors import EdgeError
from tenantgate.llm.stream import finished_chunks

__all__ = ["Due", "Plan", "Shot", "main", "run"]

_PATIENCE_S: Final = 30.0
_EARLY_S: Final = 0.001  # epoll counts in milliseconds: the rest is waited for awake
_LEAD_S: Final = 0.3
_ANSWER: Final = re.compile(r"mock answer ([0-9a-f]{10})")
_HEADERS: Final = ("x-cache-status", "x-litellm-cache-key")
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Due:
    """One request to send.

    Attributes:
        at_s: seconds from the start of the run.
        target: name of the target.
        ask: number of the ask.
        url: full address.
        headers: of the request.
        body: JSON text.
        secret: a text to look for in the answer.
    """

    at_s: float
    target: str
    ask: int
    url: str
    headers: Mapping[str, str]
    body: str
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process sends.

    Attributes:
        dues: the requests.
        lanes: 0 sends each at its time. Above 0, so many connections send one after the other as fast as answers
            come, whatever their times: to see how much goes through, not how long a request takes.
        seconds: when lanes stop, if the requests last.
    """

    dues: Sequence[Due]
    lanes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """What became of one request; seconds from the time at which it was meant to be sent.

    Attributes:
        late_s: how much later than meant it was sent.
        head_s: until the status and headers.
        token_s: until the first byte of the body that holds words of the answer; None without one.
        total_s: until the end.
        status: HTTP status, 0 without a reply.
        error: the kind of failure, empty where a reply came whole.
        headers: some of the reply's.
        digest: of the question that the mock provider answered; empty where the reply has none.
        clear: whether the due's `secret` stands in the answer.
        reason: why a gateway refused, as its error names it.
    """

    target: str
    ask: int
    at_s: float
    late_s: float
    head_s: float
    token_s: float | None
    total_s: float
    status: int
    error: str
    headers: Mapping[str, str]
    digest: str
    clear: bool
    reason: str = ""


def run(plan: Plan, *, on_start: Callable[[int], None] | None = None) -> list[Shot]:
    """Send all of the plan from another process, and give what became of it.

    `on_start` is called with the process's id.

    Raises:
        EdgeError: the process failed.
    """
    last = plan.seconds if plan.lanes else max((d.at_s for d in plan.dues), default=0.0)
    with tempfile.TemporaryDirectory(prefix="tg-load-") as name:
        asked, answered = Path(name, "plan.json"), Path(name, "results.json")
        asked.write_text(json.dumps(dataclasses.astuple(plan)))
        process = subprocess.Popen(
            [sys.executable, "-m", "tenantgate.bench.load", str(asked), str(answered)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if on_start:
                on_start(process.pid)
            _, said = process.communicate(timeout=last + _PATIENCE_S + _START_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise EdgeError(f"the load process ended with status {process.returncode}: {said.strip()[-300:]}")
        return [Shot(**shot) for shot in json.loads(answered.read_text())]


class _Answer:
    """Reads a reply as it arrives."""

    def __init__(self, kind: str) -> None:
        self._stream = kind.startswith("text/event-stream")
        self._raw = bytearray()
        self.token_s: float | None = None

    def feed(self, chunk: bytes, now_s: float) -> None:
        self._raw += chunk
        if self.token_s is None and (b'"content"' in self._raw or not self._stream):
            self.token_s = now_s

    def text(self) -> tuple[str, str]:
        """The words, and why there are none."""
        try:
            if not self._stream:
                body = json.loads(self._raw)
                if "choices" in body:
                    return str(body["choices"][0]["message"]["content"]), ""
                return "", _refusal(body)
            events = finished_chunks(self._raw.decode())
            if events is None:
                return "", "cut"
            if refusal := next((r for r in map(_refusal, events) if r), ""):
                return "", refusal
            parts = [e["choices"][0]["delta"].get("content") or "" for e in events if e.get("choices")]
            return "".join(parts), ""
        except (ValueError, LookupError, TypeError, AttributeError):
            return "", "unreadable"


def _refusal(body: Mapping[str, Any]) -> str:
    """The code of an error in OpenAI's shape; empty for anything else."""
    error = body.get("error")
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


async def _timely(session: Any, due: Due, started: float, out: list[dict[str, Any]]) -> None:
    meant = started + due.at_s
    await asyncio.sleep(meant - time.perf_counter() - _EARLY_S)
    while time.perf_counter() < meant:
        await asyncio.sleep(0)
    await _send(session, due, meant, out)


async def _lane(session: Any, dues: Iterator[Due], until: float, out: list[dict[str, Any]]) -> None:
    for due in dues:
        now = time.perf_counter()
        if now >= until:
            return
        await _send(session, due, now, out)


async def _send(session: Any, due: Due, meant: float, out: list[dict[str, Any]]) -> None:
    """One request; times count from `meant`."""
    import aiohttp

    late_s = time.perf_counter() - meant
    status, error, head_s, headers = 0, "", 0.0, {}
    answer = _Answer("")
    try:
        async with session.post(due.url, data=due.body.encode(), headers=due.headers) as response:
            head_s = time.perf_counter() - meant
            status = response.status
            headers = {n: response.headers[n] for n in _HEADERS if n in response.headers}
            answer = _Answer(response.content_type or "")
            async for chunk in response.content.iter_any():
                answer.feed(chunk, time.perf_counter() - meant)
    except TimeoutError:
        error = "timeout"
    except (aiohttp.ClientError, OSError) as problem:
        error = type(problem).__name__
    total_s = time.perf_counter() - meant
    text, reason = answer.text() if status and not error else ("", "")
    if status == 200 and not error and not text:
        error = reason or "empty"
    found = _ANSWER.search(text)
    out.append(
        {
            "target": due.target,
            "ask": due.ask,
            "at_s": due.at_s,
            "late_s": late_s,
            "head_s": head_s,
            "token_s": answer.token_s,
            "total_s": total_s,
            "status": status,
            "error": error,
            "headers": headers,
            "digest": found[1] if found else "",
            "clear": bool(due.secret) and due.secret in text,
            "reason": reason,
        }
    )


async def _run(plan: Plan) -> list[dict[str, Any]]:
    import aiohttp

    out: list[dict[str, Any]] = []
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=timeout, trust_env=False
    ) as session:
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection in the middle would look like the gateway's
        started = time.perf_counter() + _LEAD_S
        if plan.lanes:
            shared, until = iter(plan.dues), started + plan.seconds
            await asyncio.gather(*(_lane(session, shared, until, out) for _ in range(plan.lanes)))
        else:
            await asyncio.gather(*(_timely(session, due, started, out) for due in plan.dues))
    return out


def main(argv: list[str] | None = None) -> int:
    """Send a plan."""
    parser = argparse.ArgumentParser(description="send a plan of requests")
    parser.add_argument("plan", type=Path)
    parser.add_argument("results", type=Path)
    args = parser.parse_args(argv)
    dues, lanes, seconds = json.loads(args.plan.read_text())
    plan = Plan([Due(*values) for values in dues], lanes, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        args.results.write_text(json.dumps(asyncio.run(_run(plan))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
