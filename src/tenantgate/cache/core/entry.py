"""One stored answer as bytes, before it is sealed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tenantgate.llm.chat import ChatReply, served_by
from tenantgate.llm.usage import usage_details

if TYPE_CHECKING:
    from tenantgate.cache.core.ports import Sealer

__all__ = ["Entry", "decode", "encode", "opened"]

_VERSION: Final = 3
_OLDER: Final = (1, 2)  # without what the provider says besides; without the bucket


@dataclass(frozen=True, slots=True)
class Entry:
    """A question and its answer. `stored_at` is in Unix seconds, `ttl_s` what it was stored for.

    `question` is None where it can't be compared (more than text, or too long); such an entry is found exactly only.
    `bucket` is the key of the only bucket in which it may be found by similarity: the names in Redis' buckets are
    nobody's word, and a bucket is what tells a tenant's users, models and system prompts apart.
    """

    question: str | None
    reply: ChatReply
    stored_at: float
    ttl_s: int
    bucket: str | None = None

    def age_s(self, now: float) -> float:
        """Seconds since it was stored, never below 0."""
        return max(0.0, now - self.stored_at)

    def remaining_s(self, now: float) -> float:
        """Seconds that it may still be served."""
        return self.stored_at + self.ttl_s - now


def encode(entry: Entry) -> bytes:
    """The entry as bytes; `decode` gives it back."""
    reply = entry.reply
    fields = [
        _VERSION,
        entry.question,
        reply.text,
        reply.finish_reason,
        reply.model,
        reply.usage,
        entry.stored_at,
        entry.ttl_s,
        reply.tool_calls,
        [dict(reply.details), dict(reply.served)],
        entry.bucket,
    ]
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Entry | None:
    """The entry, or None for anything that isn't one of this version or the two before."""
    try:
        fields: Any = json.loads(data)
        if not isinstance(fields, list) or fields[0] not in (_VERSION, *_OLDER):
            return None
        bucket = fields.pop() if fields[0] == _VERSION else None
        details, served = fields.pop() if fields[0] != _OLDER[0] else ({}, {})
        _, question, text, reason, model, usage, stored_at, ttl_s, calls = fields
        counts = None if usage is None else (int(usage[0]), int(usage[1]), int(usage[2]))
        reply = ChatReply(
            str(text),
            reason,
            str(model),
            counts,
            tuple(dict(call) for call in calls),
            usage_details(details),
            served_by(served),
        )
        return Entry(question, reply, float(stored_at), int(ttl_s), bucket)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def opened(sealer: Sealer, key: str, sealed: bytes | None) -> Entry | None:
    """The entry under the Redis key `key`, or None where there is none, or it isn't the tenant's."""
    plain = None if sealed is None else sealer.open(sealed, key=key.encode())
    return None if plain is None else decode(plain)
