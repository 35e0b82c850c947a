"""Kong's MessagePack-RPC, both sides: bytes in, messages out, no sockets.

request  ``[0, msgid, "plugin.Method", [argument]]`` · response ``[1, msgid, error, result]``, back to back.
Texts that are not UTF-8 (header values, query strings) travel as surrogate escapes and leave unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack

__all__ = [
    "MAX_MESSAGE",
    "STEPS",
    "Call",
    "Decoder",
    "MalformedError",
    "Reply",
    "TooLargeError",
    "pack",
    "pack_as_kong",
    "reply",
]

MAX_MESSAGE: Final = 64 * 1024 * 1024
"""The largest message taken, in bytes; ai-proxy's bodies and Kong's log records are far below."""

STEPS: Final = frozenset(
    f"plugin.Step{kind}"
    for kind in ("", "Error", "Credential", "Consumer", "MemoryStats", "Route", "Service", "MultiMap")
)
"""The calls that bring the result of a PDK call."""

_HEAD: Final = 16
_UNKNOWN: Final = b"\0" * _HEAD  # the message began in bytes that are no longer at hand


class MalformedError(Exception):
    """Bytes that are no message of this protocol; the connection can't be used any more."""


class TooLargeError(MalformedError):
    """A message over the limit. `msgid` is its id, if it could be read."""

    def __init__(self, limit: int, msgid: int | None) -> None:
        super().__init__(f"message over {limit} bytes")
        self.msgid = msgid


class Call(NamedTuple):
    """A request: what Kong sends."""

    msgid: int
    method: str
    argument: Any


class Reply(NamedTuple):
    """A response: what a plugin server sends."""

    msgid: int
    error: str | None
    result: Any


def pack(value: Any) -> bytes:
    """`value` in kong-pdk's form: bytes as bin, texts as str.

    Raises:
        TypeError, ValueError, OverflowError: it can't be packed.
    """
    return bytes(msgpack.packb(value, unicode_errors="surrogateescape"))


def reply(msgid: int, packed_result: bytes) -> bytes:
    """A response around a result that was packed before."""
    return b"\x94\x01" + pack(msgid) + b"\xc0" + packed_result


class Decoder:
    """Collects bytes of one connection and gives its messages."""

    __slots__ = ("_fed", "_head", "_limit", "_unpacker")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._fed = 0
        self._head = b""  # the first bytes of the message being read: enough to find its id
        self._unpacker = msgpack.Unpacker(
            raw=False, unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=limit
        )

    def feed(self, data: bytes) -> None:
        """Take what the connection gave.

        Raises:
            TooLargeError: the message is over the limit.
        """
        if len(self._head) < _HEAD:
            self._head = (self._head + data)[:_HEAD]
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull:
            raise TooLargeError(self._limit, _msgid(self._head)) from None
        self._fed += len(data)

    def next(self) -> Call | Reply | None:
        """The next whole message, or None until more was fed.

        Raises:
            MalformedError: the bytes are no message.
        """
        try:
            message = self._unpacker.unpack()
        except msgpack.OutOfData:
            return None
        except Exception as error:  # noqa: BLE001 - msgpack raises ValueError, its own types, RecursionError …
            raise MalformedError(type(error).__name__) from None
        self._head = _UNKNOWN if self.pending else b""
        return _message(message)

    @property
    def pending(self) -> bool:
        """Whether bytes are left after the last message."""
        return bool(self._unpacker.tell() < self._fed)


def _message(value: Any) -> Call | Reply:
    # Not by `match`, which takes three times as long for each of Kong's calls.
    if type(value) is list and len(value) == 4 and type(value[1]) is int:
        kind, msgid, third, fourth = value
        if kind == 0 and type(third) is str and type(fourth) is list:
            return Call(msgid, third, fourth[0] if fourth else None)
        if kind == 1:
            return Reply(msgid, None if third is None else str(third), fourth)
    raise MalformedError("not a request or response")


def _msgid(head: bytes) -> int | None:
    try:
        unpacker = msgpack.Unpacker()
        unpacker.feed(head)
        unpacker.read_array_header()
        unpacker.unpack()
        found = unpacker.unpack()
    except Exception:  # noqa: BLE001 - garbage may raise anything
        return None
    return found if isinstance(found, int) else None


def pack_as_kong(value: Any) -> bytes:
    """`value` as Kong's lua-MessagePack packs it.

    Texts become raw (never str8), bytes bin, an empty dict an empty *array*; a dict's None values are left
    out, as a Lua table can't hold nil.
    """
    packer = msgpack.Packer(use_bin_type=False, unicode_errors="surrogateescape")
    return b"".join(_pieces(value, packer))


def _pieces(value: Any, packer: msgpack.Packer) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield msgpack.packb(value, use_bin_type=True)
    elif isinstance(value, dict):
        items = [(k, v) for k, v in value.items() if v is not None]
        yield packer.pack_map_header(len(items)) if items else packer.pack_array_header(0)
        for key, item in items:
            yield from _pieces(key, packer)
            yield from _pieces(item, packer)
    elif isinstance(value, list | tuple):
        yield packer.pack_array_header(len(value))
        for item in value:
            yield from _pieces(item, packer)
    else:
        yield packer.pack(value)
