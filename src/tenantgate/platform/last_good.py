"""The last good copy of the platform's list, on disk: it holds while the platform can't be asked, also after a restart.

Two files, each written beside its place and then moved: the list, and when the platform last said that it still holds,
which comes every time it is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tenantgate.errors import EdgeError

__all__ = ["Copy", "CopyFile"]

_FORMAT: Final = 1
_MODE: Final = 0o640
_MOST_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A list that was read whole. Times are Unix seconds.

    Attributes:
        url: of the platform that it is from; another one's ETags mean nothing.
        confirmed_at: when the platform last said that it is the newest.
    """

    url: str
    etag: str
    version: int
    fetched_at: float
    confirmed_at: float
    entries: Mapping[str, Mapping[str, Any]]

    def age_s(self, now: float) -> float:
        """Seconds since it was last known to be the newest; 0 where the clock was set back."""
        return max(0.0, now - self.confirmed_at)


class CopyFile:
    """The files at `path` and ``path.confirmed``; their folder is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._confirmed = path.with_name(path.name + ".confirmed")

    def read(self) -> Copy | None:
        """The copy; None where there is none.

        Raises:
            EdgeError: it can't be read, or is no copy.
        """
        tree = self._tree(self._path)
        if tree is None:
            return None
        try:
            copy = Copy(
                url=str(tree["url"]),
                etag=str(tree["etag"]),
                version=int(tree["version"]),
                fetched_at=float(tree["fetched_at"]),
                confirmed_at=float(tree["fetched_at"]),
                entries={str(k): dict(v) for k, v in tree["entries"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise EdgeError(f"{self._path}: isn't a copy of the platform's list") from None
        return self._with_time(copy)

    def write(self, copy: Copy) -> None:
        """Keep a new list.

        Raises:
            EdgeError: it can't be written; the one before is still there.
        """
        self._put(
            self._path,
            {
                "format": _FORMAT,
                "url": copy.url,
                "etag": copy.etag,
                "version": copy.version,
                "fetched_at": copy.fetched_at,
                "entries": dict(copy.entries),
            },
        )

    def confirm(self, copy: Copy) -> None:
        """Keep that the list was the newest at `copy.confirmed_at`.

        Raises:
            EdgeError: it can't be written.
        """
        tree = {"version": copy.version, "fetched_at": copy.fetched_at, "confirmed_at": copy.confirmed_at}
        self._put(self._confirmed, tree)

    def _with_time(self, copy: Copy) -> Copy:
        """The time of another list, or one that can't be read, is none: the list then counts as older than it is."""
        with contextlib.suppress(EdgeError, TypeError, ValueError):
            tree = self._tree(self._confirmed) or {}
            same = (tree.get("version"), tree.get("fetched_at")) == (copy.version, copy.fetched_at)
            if same and (at := float(tree.get("confirmed_at", 0.0))) > copy.confirmed_at:
                return replace(copy, confirmed_at=at)
        return copy

    def _tree(self, path: Path) -> dict[str, Any] | None:
        try:
            with path.open("rb") as file:
                raw = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EdgeError(f"{path}: {error.strerror}") from None
        try:
            tree = json.loads(raw)
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict) or tree.get("format", _FORMAT) != _FORMAT:
            raise EdgeError(f"{path}: isn't a copy of the platform's list")
        return tree

    def _put(self, path: Path, tree: Mapping[str, Any]) -> None:
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb", opener=lambda name, flags: os.open(name, flags, _MODE)) as file:
                file.write(json.dumps(tree, separators=(",", ":")).encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise EdgeError(f"{path}: {error.strerror}") from None
