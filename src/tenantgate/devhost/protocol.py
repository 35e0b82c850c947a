"""Kong's side of the plugin-server protocol: MessagePack-RPC over a Unix socket (`rpc/mp_rpc.lua`).

Packing follows lua-MessagePack: strings as raw of the old specification (never str8), an empty table as an
empty array, a whole number as an integer, bytes that are meant as such (`Binary`) as bin.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Mapping
from typing import Any, Final, NewType

import msgpack

from tenantgate.devhost import lua

__all__ = ["EMPTY_MAP", "Binary", "Connections", "RpcError", "pack"]

Binary = NewType("Binary", bytes)
"""Bytes that Kong packs as bin (`fix_raw`)."""


class _EmptyMap(dict[str, Any]):
    """The one empty table that goes out as a map (`mp_empty_map`)."""


EMPTY_MAP: Final = _EmptyMap()

_RESPONSE: Final = 1
_NOTIFICATION: Final = 2
_POOL: Final = 512  # lua_socket_pool_size of Kong's nginx.conf template


class RpcError(Exception):
    """A call without a result; the text is what Kong's `call` returns as its error."""


def pack(value: Any) -> bytes:
    """One value as Kong's packer writes it.

    Raises:
        TypeError: for what Lua's packer can't pack.
    """
    out = bytearray()
    _pack(out, value)
    return bytes(out)


def _pack(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        out += msgpack.packb(value)
    elif isinstance(value, float):
        out += msgpack.packb(int(value) if value.is_integer() and abs(value) < 2**63 else value)
    elif isinstance(value, bytes):
        out += msgpack.packb(value, use_bin_type=True)
    elif isinstance(value, str):
        _raw(out, lua.to_bytes(value))
    elif isinstance(value, Mapping):
        _map(out, value)
    elif isinstance(value, (list, tuple)):
        _head(out, len(value), 0x90, 0xDC)
        for item in value:
            _pack(out, item)
    else:
        raise TypeError(f"pack '{type(value).__name__}' is unimplemented")


def _map(out: bytearray, value: Mapping[Any, Any]) -> None:
    kept = {k: v for k, v in value.items() if v is not lua.MISSING}
    if not kept and not isinstance(value, _EmptyMap):
        out.append(0x90)
        return
    _head(out, len(kept), 0x80, 0xDE)
    for key, item in kept.items():
        _pack(out, key)
        _pack(out, item)


def _raw(out: bytearray, raw: bytes) -> None:
    size = len(raw)
    if size < 32:
        out.append(0xA0 | size)
    elif size < 1 << 16:
        out += struct.pack(">BH", 0xDA, size)
    else:
        out += struct.pack(">BI", 0xDB, size)
    out += raw


def _head(out: bytearray, size: int, short: int, long: int) -> None:
    if size < 16:
        out.append(short | size)
    elif size < 1 << 16:
        out += struct.pack(">BH", long, size)
    else:
        out += struct.pack(">BI", long + 1, size)


class Connections:
    """Connections to one plugin server: one borrowed for each call, one call in flight on each."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._busy: set[asyncio.StreamWriter] = set()

    async def call(self, method: str, argument: Any) -> Any:
        """The result of one call; MISSING where the server gave none.

        Raises:
            RpcError: nobody listens, the server hung or left, or it answered with an error.
        """
        msgid = next(self._ids)
        reader, writer = await self._borrow()
        self._busy.add(writer)
        done = False
        try:
            writer.write(pack([0, msgid, "plugin." + method, [argument]]))
            async with asyncio.timeout(self._timeout_s):
                await writer.drain()
            answer = await self._answer(reader, msgid)
            done = True
        except (OSError, TimeoutError, EOFError, ValueError, msgpack.exceptions.UnpackException) as error:
            raise RpcError("no data") from error
        finally:
            self._busy.discard(writer)
            if done and not reader.at_eof() and len(self._idle) < _POOL:
                self._idle.append((reader, writer))
            else:
                writer.close()
        error_text, result = answer[2], answer[3] if len(answer) > 3 else None
        if error_text is not None:
            raise RpcError(str(error_text))
        return result

    async def _answer(self, reader: asyncio.StreamReader, msgid: int) -> list[Any]:
        unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, unicode_errors="surrogateescape", max_buffer_size=0
        )
        while True:
            # The time-out is nginx's: between two reads, not over the whole.
            async with asyncio.timeout(self._timeout_s):
                data = await reader.read(1 << 16)
            if not data:
                raise EOFError
            unpacker.feed(data)
            for message in unpacker:
                if message[0] == _NOTIFICATION:
                    continue
                if message[0] != _RESPONSE or message[1] != msgid:
                    raise ValueError
                return list(message)

    async def _borrow(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.open_unix_connection(self._path)
        except TimeoutError as error:
            raise RpcError("timeout") from error
        except OSError as error:
            raise RpcError((error.strerror or "connection failed").lower()) from error

    def close(self) -> None:
        """Close every connection, those in use too."""
        for _, writer in self._idle:
            writer.close()
        for writer in self._busy:
            writer.close()
        self._idle.clear()
