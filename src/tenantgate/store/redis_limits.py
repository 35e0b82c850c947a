"""What a Redis may take of us: time for a whole call, and bytes, elements and depth of its answers.

redis-py's time-out is for each read, so a Redis that sends a byte now and then holds its caller for as long as it
likes, and hiredis makes room for whatever length an answer claims. Here each read has what is left of the call's
time, and headers are read before hiredis sees them (RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/).
A connection that breaks a bound is closed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis._parsers import _HiredisParser
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import InvalidResponse

__all__ = ["BACKGROUND", "MAP", "REQUEST", "ReplyLimits", "ReplyScan", "bound", "within"]

_LINE: Final = 65_536  # bytes of a header, a simple text or an error
_AT_LEAST_S: Final = (
    0.001  # for the first read of an answer, which may well have come while we did something else
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLimits:
    """Bounds of the answers to one command, or to all of a pipeline.

    Attributes:
        size: bytes.
        elements: of all arrays together.
        depth: of arrays in arrays.
        trips: so many times a command's time-out is what one call may take, which may be several commands.
    """

    size: int
    elements: int
    depth: int = 4
    trips: int = 2


REQUEST: Final = ReplyLimits(size=64 << 20, elements=10_000)
"""While a client waits: an entry, or a few neighbours with theirs."""
BACKGROUND: Final = ReplyLimits(size=256 << 20, elements=2_000_000, depth=8, trips=10)
"""Records and books, for threads and commands that nobody waits for."""
MAP: Final = ReplyLimits(size=16 << 20, elements=1_000_000, depth=8)
"""A cluster's map: sixteen thousand slots at most, each with a node, its names and its replicas."""


class ReplyScan:
    """Reads the headers of RESP2 answers as they come, in pieces cut anywhere."""

    def __init__(self, limits: ReplyLimits) -> None:
        self._limits = limits
        self._line = bytearray()
        self._skip = 0  # bytes of a text, and its line end
        self._open: list[int] = []  # elements that arrays still miss, the innermost last
        self.begin()

    def begin(self) -> None:
        """Count anew: a call begins."""
        self._size = self._elements = 0

    @property
    def between(self) -> bool:
        """Whether no answer has begun that hasn't ended."""
        return not (self._open or self._skip or self._line)

    def feed(self, data: bytes) -> None:
        """Look at more bytes.

        Raises:
            InvalidResponse: they break a bound, or aren't RESP2.
        """
        self._size += len(data)
        if self._size > self._limits.size:
            raise InvalidResponse("the answer has more bytes than are allowed")
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                took = min(self._skip, end - at)
                at, self._skip = at + took, self._skip - took
                if not self._skip:
                    self._done()
                continue
            line_end = data.find(b"\n", at)
            if line_end < 0:
                self._line += data[at:]
                at = end
            else:
                self._line += data[at:line_end]
                at = line_end + 1
            if len(self._line) > _LINE:
                raise InvalidResponse("a line of the answer has more bytes than are allowed")
            if line_end >= 0:
                line = bytes(self._line)
                self._line.clear()
                self._header(line)

    def _header(self, line: bytes) -> None:
        kind = line[:1]
        if kind == b"$":
            length = _number(line)
            if length > self._limits.size:
                raise InvalidResponse("a text of the answer has more bytes than are allowed")
            if length >= 0:
                self._skip = length + 2
                return
        elif kind == b"*":
            count = _number(line)
            self._elements += max(count, 0)
            if self._elements > self._limits.elements:
                raise InvalidResponse("the answer has more elements than are allowed")
            if count > 0:
                self._open.append(count)
                if len(self._open) > self._limits.depth:
                    raise InvalidResponse("the answer is deeper than is allowed")
                return
        elif kind not in (b"+", b"-", b":"):
            raise InvalidResponse("the answer isn't RESP2")
        self._done()

    def _done(self) -> None:
        """A value has ended, and perhaps the arrays that it is the last one of."""
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return
            self._open.pop()


def _number(line: bytes) -> int:
    text = line[1:].rstrip(b"\r")
    if not (text.isdigit() and len(text) <= 18) and text != b"-1":
        raise InvalidResponse("a length of the answer is no number")
    return int(text)


_call_until: ContextVar[float] = ContextVar("call_until", default=math.inf)


class within:  # noqa: N801 - reads as a statement; made by hand, since a generator takes three times as long
    """All commands within the block, connecting included, have this long together."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token = _call_until.set(min(_call_until.get(), time.monotonic() + self._seconds))

    def __exit__(self, *raised: object) -> None:
        _call_until.reset(self._token)


class _Bounded:
    """What bounded connections have in common; before redis-py's class in the order of resolution."""

    _sock: Any
    connect: Any
    disconnect: Any
    socket_timeout: Any
    socket_connect_timeout: Any
    _parser: Any

    def __init__(self, *, limits: ReplyLimits, **options: Any) -> None:
        self.scan = ReplyScan(limits)
        self.limits = limits
        self._until = math.inf
        self._connect_within_s = options.get("socket_connect_timeout") or math.inf
        whole: Any = super()  # redis-py gives its methods no types
        whole.__init__(parser_class=_Parser, **options)

    def _connect(self) -> Any:
        left = min(self._connect_within_s, _call_until.get() - time.monotonic())
        if left < math.inf:
            self.socket_connect_timeout = max(left, _AT_LEAST_S)
        whole: Any = super()
        return whole._connect()  # noqa: SLF001 - the one place that makes a socket

    def freshen(self) -> None:
        """Have no connection rather than one that is closed, or has something to read: nothing was asked."""
        if self._sock is None:
            return
        try:
            stale = self._parser.can_read(0)
        except (redis.RedisError, OSError):
            stale = True
        if stale:
            self.disconnect()

    def send_whole(self, command: bytes) -> None:
        """Send one packed command: `send_packed_command` without what concerns several."""
        if self._sock is None:
            self.connect()
        timeout_s = self.socket_timeout or math.inf
        self._until = min(time.monotonic() + timeout_s, _call_until.get())
        self.scan.begin()
        try:
            self._sock.settimeout(self.left_s())
            self._sock.sendall(command)
        except OSError as error:
            self.disconnect()
            kind = redis.TimeoutError if isinstance(error, TimeoutError) else redis.ConnectionError
            raise kind(f"while writing to socket: {type(error).__name__}") from None
        except BaseException:
            self.disconnect()
            raise

    def read_response(self, *_: Any, **__: Any) -> Any:
        """The answer to a command, in bytes."""
        try:
            response = self._parser.read_response()
        except OSError as error:
            self.disconnect()
            kind = redis.TimeoutError if isinstance(error, TimeoutError) else redis.ConnectionError
            raise kind(f"while reading from socket: {type(error).__name__}") from None
        except BaseException:
            self.disconnect()
            raise
        if isinstance(response, redis.ResponseError):
            raise response
        return response

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        whole: Any = super()
        whole.send_packed_command(self._in_time(command), check_health)

    def _in_time(self, command: Any) -> Iterator[Any]:
        """The parts of a command, each with what is left of its time for being sent: `sendall` counts it as a whole."""
        timeout_s = self.socket_timeout or math.inf
        self._until = min(time.monotonic() + timeout_s, _call_until.get())
        self.scan.begin()
        for item in (command,) if isinstance(command, str | bytes) else command:
            self._sock.settimeout(self.left_s())
            yield item

    def left_s(self, at_least: float = 0.0) -> float | None:
        """What is left of the command's time, for `socket.settimeout`.

        Raises:
            TimeoutError: nothing.
        """
        if self._until == math.inf:
            return None
        left = max(self._until - time.monotonic(), at_least)
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Connection(_Bounded, redis.Connection):
    pass


class _SslConnection(_Bounded, redis.SSLConnection):
    pass


class _Parser(_HiredisParser):  # type: ignore[misc,no-any-unimported,unused-ignore]
    """hiredis, given what the scan has let pass."""

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        whole: Any = super()
        whole.on_connect(connection, **kwargs)
        self._connection = connection
        connection.scan = ReplyScan(connection.limits)

    def on_disconnect(self) -> None:
        whole: Any = super()
        whole.on_disconnect()
        self._connection = None

    def read_response(self, *_: Any, **__: Any) -> Any:
        """The answer to a command; what redis-py reads beside are messages of RESP3, which isn't spoken."""
        reader, at_least_s = self._reader, _AT_LEAST_S
        if reader is None:
            raise redis.ConnectionError("Connection closed by server.")
        while (response := reader.gets()) is NOT_ENOUGH_DATA:
            self._read_more(at_least_s)
            at_least_s = 0.0
        if isinstance(response, redis.ConnectionError):
            raise response
        return response

    def read_from_socket(self, timeout: object = None, raise_on_timeout: bool = True) -> bool:
        """More of the answer; redis-py's own time-out is replaced by what is left of the call's."""
        del timeout, raise_on_timeout
        self._read_more(0.0)
        return True

    def _read_more(self, at_least_s: float) -> None:
        connection, sock, reader = self._connection, self._sock, self._reader
        if connection is None or sock is None or reader is None:
            raise redis.ConnectionError("Connection closed by server.")
        sock.settimeout(connection.left_s(at_least_s))
        size = sock.recv_into(self._buffer)
        if not size:
            raise redis.ConnectionError("Connection closed by server.")
        read = bytes(self._buffer[:size])
        connection.scan.feed(read)
        reader.feed(read)


def bound(client: redis.Redis, limits: ReplyLimits) -> None:
    """Have all connections of a client that has made none yet keep to `limits`."""
    pool = client.connection_pool
    tls = issubclass(pool.connection_class, redis.SSLConnection)
    pool.connection_class = _SslConnection if tls else _Connection
    pool.connection_kwargs["limits"] = limits
