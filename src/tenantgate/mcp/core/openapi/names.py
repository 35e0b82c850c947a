"""Names of tools and arguments: the narrow rules that all clients know, the same at each reading of a document."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeVar

__all__ = ["ARGUMENT", "TOOL", "argument_names", "kebab", "plain_name", "unique"]

TOOL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Of a tool. The specification allows more; clients and models' APIs don't."""
ARGUMENT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Of a member of the arguments, as models' APIs take it."""
_MOST: Final = 64
_HASH: Final = 8

K = TypeVar("K")

_PLACES: Final = ("path", "query", "header", "cookie", "body")
"""Who keeps a name that several have: what must be there first."""


def kebab(text: str) -> str:
    """`text` as decK's openapi2mcp writes it: ``listPets`` and ``list_pets`` are ``list-pets``."""
    text = re.sub(r"[ _]", "-", text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", text).lower()
    return re.sub(r"-{2,}", "-", text).strip("-")


def plain_name(operation_id: str, method: str, path: str) -> str:
    """The name of an operation by its id, else by its method and path; never empty, not always short enough."""
    found = kebab(operation_id) or kebab(f"{method.lower()}-{path.replace('/', '-')}")
    return re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9_-]+", "-", found)).strip("-") or method.lower()


def unique(wanted: Mapping[K, tuple[str, str]], taken: frozenset[str] = frozenset()) -> dict[K, str]:
    """A name for each key, given by `wanted` as the name that it would have, and what it is told apart by.

    A name that several want, that is `taken` or that is too long, ends in a hash of what it is told apart by. So no
    name depends on the order of a document, and none ever passes on from one operation to another.
    """
    count = Counter(name for name, _ in wanted.values())
    made: dict[K, str] = {}
    for key, (name, identity) in wanted.items():
        if count[name] > 1 or name in taken or len(name) > _MOST:
            digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:_HASH]
            name = f"{name[: _MOST - _HASH - 1].rstrip('-_')}-{digest}"  # noqa: PLW2901 - the same name, longer
        made[key] = name
    return made


def argument_names(wanted: list[tuple[str, str]]) -> list[str]:
    """Names of arguments for parameters, each given by its name and place; the names of the API where they fit."""
    plain = [re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:_MOST] or "value" for name, _ in wanted]
    made = [""] * len(wanted)
    taken: set[str] = set()
    order = sorted(range(len(wanted)), key=lambda i: (_PLACES.index(wanted[i][1]), wanted[i][0]))
    for i in order:
        name, place = wanted[i]
        choice = plain[i]
        if choice in taken:
            choice = f"{choice[: _MOST - 7]}_{place}"
        if choice in taken:
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_HASH]
            choice = f"{choice[: _MOST - _HASH - 1]}_{digest}"
        taken.add(choice)
        made[i] = choice
    return made
