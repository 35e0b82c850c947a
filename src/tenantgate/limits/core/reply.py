"""What a client gets to see of its limits: headers as Kong's rate-limiting has them, and the refusal.

Source: kong/plugins/rate-limiting/handler.lua of Kong 3.9.3. There a reset is the end of the clock's minute, when all
requests are free again; here it is the time at which the first of them is, since windows slide.
"""

from __future__ import annotations

from typing import Final

from tenantgate.limits.core.window import MICROSECONDS, Decision, Room
from tenantgate.llm.errors import Code, ErrorType, error_body

__all__ = ["headers", "reached", "refusal"]

_SUBJECTS: Final = {"tenant": "this account", "model": "this model", "key": "this API key"}


def reached(decision: Decision) -> Room:
    """Of the limits that refused a request the one that will do so for longest."""
    return max((room for room in decision.rooms if not room.remaining), key=lambda room: room.wait_us)


def headers(decision: Decision) -> dict[str, str]:
    """The reply's headers: each period's limit, and without a period the one with the fewest requests left.

    Of two limits of one period, as a tenant's and a key's, the one with fewer requests left is shown.
    """
    out: dict[str, str] = {}
    # Kong, too, shows the longer period where as few requests are left.
    rooms = sorted(decision.rooms, key=lambda room: (room.remaining, -room.limit.period, -room.wait_us))
    for room in reversed(rooms):
        period = room.limit.period.word.title()
        out[f"X-RateLimit-Limit-{period}"] = str(room.limit.most)
        out[f"X-RateLimit-Remaining-{period}"] = str(room.remaining)
    shown = rooms[0] if decision.counted else reached(decision)
    out["RateLimit-Limit"] = str(shown.limit.most)
    out["RateLimit-Remaining"] = str(shown.remaining)
    out["RateLimit-Reset"] = str(_seconds(shown))
    if not decision.counted:
        out["Retry-After"] = out["RateLimit-Reset"]
    return out


def refusal(decision: Decision) -> bytes:
    """The body of the answer to a request that wasn't counted."""
    room = reached(decision)
    requests = "request" if room.limit.most == 1 else "requests"
    message = (
        f"Rate limit reached: {room.limit.most} {requests} per {room.limit.period.word} for "
        f"{_SUBJECTS[room.limit.subject]}. Try again in {_seconds(room)} s."
    )
    return error_body(message, kind=ErrorType.RATE_LIMIT, code=Code.RATE_LIMIT_EXCEEDED)


def _seconds(room: Room) -> int:
    """Whole seconds, at least 1, after which there is room."""
    return max(1, -(-room.wait_us // MICROSECONDS))
