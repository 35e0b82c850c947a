"""Headers of clients that may reach a provider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["HEADER", "TAKEN", "problems"]

HEADER: Final = r"^[A-Za-z0-9_-]+$"
# Headers that hold keys, or that HTTP needs.
TAKEN: Final = frozenset(
    "apikey authorization connection content-encoding content-length content-type cookie host proxy-authorization "
    "set-cookie te transfer-encoding upgrade".split()
)
# Beside them, what a provider takes for a credential, and what Kong or ai-proxy sets.
_OURS: Final = frozenset(
    "accept-encoding api-key anthropic-version expect via x-amz-date x-amz-security-token x-api-key x-goog-api-key "
    "x-real-ip".split()
)
_OURS_BEGIN: Final = ("x-consumer-", "x-forwarded-", "x-kong-")


def problems(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each of a field ``upstream_headers`` that can't be the client's: the field's path, and why."""
    for i, name in enumerate(names):
        if name.lower() in TAKEN | _OURS or name.lower().startswith(_OURS_BEGIN):
            what = f"{name} holds a credential, or is set on the way; it can't be the client's"
            yield f"upstream_headers[{i}]", what
