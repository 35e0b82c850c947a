"""What a miss leaves for its log phase: the question and its names, as a value that travels with the request.

The request body can't be read in Kong's log phase, and that phase may run in another process than access did. So what
it needs lies in Kong's memory as long as the request lives, as the body does. The question's text is in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tenantgate.cache.core.evidence import BINS
from tenantgate.cache.core.partition import Keys
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.cache.core.outcome import Miss
    from tenantgate.cache.core.question import Question

__all__ = ["Doubt", "Pending", "pending_of", "read", "written"]

_VERSION: Final = 2
_NAME: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A stored answer that wasn't served: `name` is its entry's, `bin` that of the questions' score.

    `bin` is None where the question is the same, and `probe` says that it would have been served.

    The answer itself isn't kept: the log phase reads it again, if it is still there.
    """

    name: str
    bin: int | None
    probe: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A miss: what its log phase needs to store the provider's answer.

    `question` is None where it isn't compared. `stream` says whether the client asked for server-sent events. `bucket`
    is that of `similar.Place`. `damaged` names entries that could not be opened and should go. `comparison` is what the
    provider's answer is compared with. `lease` is the token of the lease by which others wait for this request.
    """

    keys: Keys
    name: str
    question: str | None
    stream: bool
    bucket: str | None = None
    damaged: tuple[str, ...] = ()
    comparison: Doubt | None = None
    lease: str | None = None


def pending_of(
    question: Question, miss: Miss, damaged: tuple[str, ...] = (), lease: str | None = None
) -> Pending:
    """What a miss leaves."""
    place = miss.place
    # Only what is compared needs its text: what is too long for that would only make the entry large.
    text = question.text if place.bucket else None
    return Pending(
        question.keys,
        question.name,
        text,
        question.request.stream,
        place.bucket,
        damaged,
        miss.comparison,
        lease,
    )


def written(pending: Pending) -> dict[str, Any]:
    """A pending miss as a map of plain values: texts, bytes, booleans, integers and lists; `read` gives it back.

    Some 300 bytes and the question, if that is compared.
    """
    doubt = pending.comparison
    return {
        "version": _VERSION,
        "tenant": str(pending.keys.tenant),
        "name": pending.name,
        "question": pending.question,
        "stream": pending.stream,
        "bucket": None if pending.bucket is None else pending.bucket.removeprefix(pending.keys.bucket("")),
        "damaged": list(pending.damaged),
        "comparison": None if doubt is None else [doubt.name, doubt.bin, doubt.probe],
        "lease": pending.lease,
    }


def read(value: Mapping[str, Any] | None) -> Pending | None:
    """What was written; None for anything else, for example by another version. All keys are the named tenant's.

    Who wrote it isn't checked: in Kong's memory only its plugins write, and who can load one there can read and alter
    the requests themselves.
    """
    match value:
        case {
            "version": version,
            "tenant": str(tenant),
            "name": str(name),
            "question": str() | None as question,
            "stream": bool(stream),
            "bucket": str() | None as bucket,
            "damaged": list(damaged),
            "comparison": compared,
            "lease": str() | None as lease,
        } if version == _VERSION and tenant and all(map(_is_name, [name, *damaged])):
            keys = Keys(TenantId(tenant))
        case _:
            return None
    doubt = _doubt(compared)
    if (doubt is None) != (compared is None) or (bucket is None) != (question is None):
        return None
    if bucket is not None and not _is_name(bucket):
        return None
    where = None if bucket is None else keys.bucket(bucket)
    if lease is not None and not _is_name(lease):
        return None
    return Pending(keys, name, question, stream, where, tuple(damaged), doubt, lease)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _doubt(value: object) -> Doubt | None:
    match value:
        case [str(name), int() | None as number, bool(probe)] if _is_name(name):
            known = number is None or 0 <= number < BINS
            return Doubt(name, number, probe) if known else None
    return None
