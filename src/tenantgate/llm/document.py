"""A chat request as everybody reads it, and the bytes that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantgate.llm.body import LIMITS, Limits, parse, write
from tenantgate.llm.members import checked
from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["Document", "read"]


@dataclass(frozen=True, slots=True)
class Document:
    """A request that passed the grammar and the check of its members.

    Attributes:
        body: all of it. ``messages`` isn't empty and holds objects with a ``role``.
        raw: `body` as `tenantgate.llm.write` writes it: what may go upstream.
        rewritten: whether `raw` differs from what the client sent.
        altered: whether ai-proxy would read something else in what the client sent: a null was taken out. Another
            spelling it reads alike, and numbers it rounds in the same way.
    """

    body: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    rewritten: bool
    altered: bool


def read(raw: bytes, limits: Limits = LIMITS) -> Document | Refusal:
    """The one reading of a request body; ``read(read(x).raw)`` is the same again, not rewritten."""
    value = parse(raw, limits)
    if isinstance(value, Refusal):
        return value
    body = checked(value, limits)
    if isinstance(body, Refusal):
        return body
    try:
        canonical = write(body)
    except ValueError:  # pragma: no cover - the grammar lets nothing through that can't be written
        return Refusal(Reason.NOT_JSON, "The body can't be written as JSON.")
    return Document(body, canonical, canonical != raw, body is not value)
