"""What a mock provider was asked: each request's host, path, headers and credentials, and what was billed twice."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["SECRETS", "Asked", "Ledger"]

SECRETS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "apikey", "cookie"})
"""Headers that hold credentials: of these it keeps the SHA-256 of the value only."""

_KEPT: Final = 1000
_KEPT_BYTES: Final = 64 << 20
_QUESTIONS: Final = 100_000
_GAPS: Final = 10_000
_MODELS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came."""

    port: int
    path: str
    query: str
    model: str
    stream: bool
    question: str = field(repr=False)
    """Digest of the last question, the same for all tries of one client's request."""
    headers: Iterable[tuple[str, str]] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    """Where it is to be kept."""
    billed: bool
    """Whether the answer is one that a provider may ask money for."""
    tokens: tuple[int, int] = (0, 0)
    """Of the prompt and of the whole reply, if it is billed."""


class Ledger:
    """The latest requests in full, counts of all; of bounded size."""

    def __init__(self) -> None:
        self.records: deque[dict[str, Any]] = deque()
        self._bytes = 0
        self._number = 0
        self._counts: Counter[str] = Counter()
        self._bill: dict[str, list[int]] = {}
        self._questions: OrderedDict[str, list[int]] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._gaps: deque[float] = deque(maxlen=_GAPS)

    def note(self, asked: Asked, now: float) -> None:
        """Write a request down; `now` in seconds of any clock."""
        if (at := self._refused.pop(asked.question, None)) is not None:
            self._gaps.append((now - at) * 1000)
        credentials = {n.lower(): _sha256(v) for n, v in asked.headers if n.lower() in SECRETS}
        credential = next(iter(credentials.values()), _sha256(""))
        self._number += 1
        self._counts[f"{asked.model} {credential[:16]}"] += 1
        record: dict[str, Any] = {
            "number": self._number,
            "port": asked.port,
            "host": next((v for n, v in asked.headers if n.lower() == "host"), ""),
            "model": asked.model,
            "path": asked.path,
            "query": asked.query,
            "stream": asked.stream,
            "question": asked.question,
            "credential_sha256": credential,
            "credentials": credentials,
            "headers": {
                n: v.encode("utf-8", "backslashreplace").decode()
                for n, v in asked.headers
                if n.lower() not in SECRETS
            },
            "billed": asked.billed,
        }
        if asked.body is not None:
            record["body"] = base64.b64encode(asked.body).decode()
        self._keep(record)
        if asked.billed:
            self._charge(asked)

    def refused(self, question: str, now: float) -> None:
        """A question is about to be answered with an error: the next one like it is its next try."""
        self._refused[question] = now
        if len(self._refused) > _QUESTIONS:
            self._refused.popitem(last=False)

    def _keep(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self._bytes += len(record.get("body", ""))
        while len(self.records) > _KEPT or (self._bytes > _KEPT_BYTES and len(self.records) > 1):
            self._bytes -= len(self.records.popleft().get("body", ""))

    def _charge(self, asked: Asked) -> None:
        question, model = asked.question, asked.model
        if model in self._bill or len(self._bill) < _MODELS:
            self._bill[model] = _plus(self._bill.get(model), asked.tokens)
        self._questions[question] = _plus(self._questions.pop(question, None), asked.tokens)
        if len(self._questions) > _QUESTIONS:
            self._questions.popitem(last=False)

    def forget(self) -> None:
        """Begin anew."""
        self.records.clear()
        self._counts.clear()
        self._bill.clear()
        self._questions.clear()
        self._refused.clear()
        self._gaps.clear()
        self._bytes = 0

    def summary(self) -> Mapping[str, Any]:
        """Everything as JSON."""
        return {"total": sum(self._counts.values()), "counts": self._counts, "records": list(self.records)}

    def billing(self) -> Mapping[str, Any]:
        """What the latest questions cost.

        Counts of requests, of questions that were ``billed``, of those ``billed_twice``; from each refusal to the next
        try the milliseconds, in order of size; and of chats ``models`` and ``questions`` (by their digest) with
        requests, prompt tokens and tokens of whole replies, also of those that broke off.
        """
        twice = sum(1 for n, _, _ in self._questions.values() if n > 1)
        return {
            "requests": sum(self._counts.values()),
            "billed": len(self._questions),
            "billed_twice": twice,
            "next_try_ms": sorted(self._gaps),
            "models": self._bill,
            "questions": self._questions,
        }


def _plus(sums: list[int] | None, tokens: tuple[int, int]) -> list[int]:
    requests, prompt, reply = sums or (0, 0, 0)
    return [requests + 1, prompt + tokens[0], reply + tokens[1]]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
