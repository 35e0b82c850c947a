"""Temporary raises of limits: where they lie in Redis, and what they add.

All raises of a tenant are one hash (`tenantgate.limits.core.keys.raises_key`), so that the ledger's scripts read them
in the call that counts. A field is a counter's name, its value ``AMOUNT UNTIL``: whole numbers, what is added to the
limit in the counter's unit, and the Unix time in ms by Redis' clock at which it ends.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Raise", "raised", "read_raise"]

_VALUE: Final = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16})")


class Raise(NamedTuple):
    """What is added to a limit, in its unit, until a Unix time in ms."""

    amount: int
    until_ms: int

    def __str__(self) -> str:
        return f"{self.amount} {self.until_ms}"


def read_raise(value: bytes | None) -> Raise | None:
    """The raise in a field's value; None if it is none."""
    match = _VALUE.fullmatch(value or b"")
    return None if match is None else Raise(int(match[1]), int(match[2]))


def raised(most: int, found: Raise | None, now_ms: int) -> int:
    """The limit with its raise."""
    return most if found is None or found.until_ms <= now_ms else most + found.amount
