"""Members in another spelling than the API's.

Go's encoding/json, which Ollama and LocalAI read requests with, and .NET's web defaults take ``MAX_TOKENS`` for
``max_tokens``, and the one that comes last holds. So what a policy has read, lowered or left out there would stand in
the request once more, under a name that only the provider knows.
Source: https://pkg.go.dev/encoding/json#Unmarshal,
https://learn.microsoft.com/dotnet/standard/serialization/system-text-json/character-casing
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["ALSO", "told", "variant"]

ALSO: Final = ("best_of", "metadata", "n_predict", "prompt_cache_key", "safety_identifier")
"""Members of requests without a type of their own here, which policies go by all the same."""


def variant(found: Iterable[str], known: Collection[str]) -> str | None:
    """The first name in `found` that is in `known` but for upper and lower case, as Unicode folds them.

    The long s is an s: https://pkg.go.dev/strings#EqualFold.
    """
    for name in found:
        if name not in known and name.casefold() in known:
            return name
    return None


def told(name: str) -> str:
    """How such a member has to be written, for the sentence of its refusal."""
    return f"written {name.casefold()}"
