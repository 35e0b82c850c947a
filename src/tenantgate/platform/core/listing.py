"""The platform's list of tenants, in pages. Members that this version doesn't know are passed over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.errors import ConfigError

__all__ = ["TENANTS_MAX", "Page", "read_page"]

TENANTS_MAX: Final = 100_000
"""Tenants of one list."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION_MAX: Final = 2**53 - 1
_CURSOR_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        version: of the whole list; a later one is higher.
        entries: by tenant id, as they came.
        next_cursor: of the next page; None on the last one.
    """

    version: int
    entries: Mapping[str, Mapping[str, Any]]
    next_cursor: str | None


def read_page(raw: bytes) -> Page:
    """The page in an answer's body.

    Raises:
        ConfigError: it is none; names the member and its problem.
    """
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigError("isn't JSON") from None
    if not isinstance(tree, dict):
        raise ConfigError("must be an object")
    version, cursor, data = tree.get("version"), tree.get("next_cursor"), tree.get("data")
    if type(version) is not int or not 0 < version <= _VERSION_MAX:
        raise ConfigError("version: must be a whole number from 1")
    if cursor is not None and (not isinstance(cursor, str) or not 0 < len(cursor) <= _CURSOR_MAX):
        raise ConfigError(f"next_cursor: must be a text of at most {_CURSOR_MAX} characters, or null")
    if not isinstance(data, list):
        raise ConfigError("data: must be a list")
    entries: dict[str, Mapping[str, Any]] = {}
    for i, entry in enumerate(data):
        tenant = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(tenant, str) or not _ID.fullmatch(tenant):
            raise ConfigError(f"data[{i}].id: must be a tenant's id")
        if tenant in entries:
            raise ConfigError(f"data[{i}].id: {tenant} is there twice")
        entries[tenant] = entry
    return Page(version, entries, cursor)
