"""Batches and pauses of records on their way to a sink. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from tenantgate.audit.core.ports import Queued

__all__ = ["LONGEST_PAUSE_S", "batch_key", "pause_s"]

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0


def pause_s(
    failures: int, random: float, *, asked_s: float | None = None, longest_s: float = LONGEST_PAUSE_S
) -> float:
    """Seconds to wait after so many failures in a row, with full jitter; `random` from 0 to 1.

    At least what the receiver asked for (``Retry-After``), an hour at most.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    top = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return max(top * random, min(asked_s or 0.0, 3600.0))


def batch_key(batch: Sequence[Queued]) -> str:
    """Key of a batch, the same for the same records in the same order: receivers drop doubles by it."""
    digest = hashlib.sha256()
    for queued in batch:
        digest.update(queued.id.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
