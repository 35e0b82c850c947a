"""Reservations in Redis: one call a request, a short time-out, a circuit breaker for each node."""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgpack
import redis
from redis.exceptions import ClusterDownError

from tenantgate.bounded import Bounded
from tenantgate.limits.core.counters import DAY_MS, amounts_of, kept_ms, life_ms, run_width_us
from tenantgate.limits.core.keys import raises_key, settled_key, window_key
from tenantgate.limits.core.ledger import (
    AMOUNT_MAX,
    TOKENS_MAX,
    Certainty,
    Claim,
    NotCountedError,
    Refused,
    Reservation,
    Reserved,
    Room,
    Settlement,
    Uncertain,
    Used,
)
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.store.breaker import Breaker
from tenantgate.store.redis_nodes import Script
from tenantgate.telemetry import logs, metrics
from tenantgate.tenant import slug

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Node, Nodes
    from tenantgate.tenant import TenantId

__all__ = ["RedisLedger"]

T = TypeVar("T")

_log: Final = logging.getLogger("tenantgate.limits")
_QUIET_S: Final = (
    10.0  # between the log lines of two outages, so that a Redis that fails now and then doesn't fill it
)
_UNKNOWN: Final = ""  # instead of a node, where a cluster has none for a key
_TRIES: Final = (
    3  # for the window: the first by our clock, the second by Redis', the third if it ended meanwhile
)
_SPANS: Final = 1000
_SETTLED_MS: Final = 1_800_000
_EXPECTED, _SHRINK, _ADMIT, _SHADOW, _REQUESTS = 1, 2, 4, 8, 16
# A member of an enum by its class takes ten times as long.
_BY_REQUEST, _PROBABLE, _SHRINKS, _ADMITS = (
    Counted.REQUESTS,
    Reserve.EXPECTED,
    OnTight.SHRINK,
    OnTight.ADMIT,
)
_CERTAINTIES: Final = {
    Certainty.EXACT: 0,
    Certainty.LOWER_BOUND: 1,
    Certainty.UNCERTAIN: 2,
    Certainty.NONE: 3,
}
_REFUSALS: Final = {0: None, 1: Refused.EXHAUSTED, 2: Refused.HELD}
_OTHER_WINDOW: Final = 3
_FINAL: Final = 2

_failures: Final = metrics.counter(
    "tenantgate_limits_redis_failures_total",
    "Calls of the rate limits to Redis that failed, by kind.",
    ("kind",),
)
_breaker_open: Final = metrics.gauge(
    "tenantgate_limits_breaker_open",
    "1 while requests aren't counted because this Redis failed several times in a row.",
    ("redis",),
)
_expired: Final = metrics.counter(
    "tenantgate_limits_expired_total",
    "Calls that found reservations which had expired, and charged them as uncertain.",
    (),
)


class RedisLedger:
    """The counters of one Redis or one cluster; thread-safe. Implements `limits.core.ledger.Ledger`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._reserve, self._settle, self._read = _scripts("reserve", "settle", "read")
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._out: set[str] = set()
        self._logged: dict[str, float] = {}
        self._ahead_ms: dict[str, int] = {}  # of Redis' clocks
        self._spans: Bounded[Window, tuple[int, int]] = Bounded(_SPANS)

    def reserve(self, asked: Reservation) -> Reserved:
        """Hold what a request may take: for all of its claims or for none.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """
        tenant = asked.tenant
        fixed_keys = [settled_key(tenant, asked.id), raises_key(tenant)]

        def call(node: Node) -> Any:
            now_ms = self._now_ms(node.name)
            for _ in range(_TRIES):
                spans = [self._span(claim.window, now_ms) for claim in asked.claims]
                keys = [
                    window_key(tenant, claim.counter, claim.window, span[0])
                    for claim, span in zip(asked.claims, spans, strict=True)
                ]
                given = self._given_back(asked, set(keys))
                script_keys = [*fixed_keys, *keys, *given]
                arguments = _packed(asked.id, _reserving(asked, spans, list(given.values())))
                answer = node.ask(lambda client: self._reserve(script_keys, arguments, client))  # noqa: B023
                other = _numbers(answer, 2)
                if not other or other[0] != _OTHER_WINDOW:
                    return answer
                now_ms = other[1]
                self._learn(node.name, now_ms)
            return None

        return self._asked(fixed_keys[0], call, lambda answer: _reserved(answer, len(asked.claims)))

    def settle(self, ended: Settlement) -> Sequence[Room]:
        """Put what was used in the place of what was held; the second time for an id nothing happens.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """
        spans = [self._span(used.window, ended.started_ms) for used in ended.used]
        keys = [settled_key(ended.tenant, ended.id), raises_key(ended.tenant)]
        for used, span in zip(ended.used, spans, strict=True):
            keys.append(window_key(ended.tenant, used.counter, used.window, span[0]))
        arguments = _packed(ended.id, _settling(ended, spans))
        return self._asked(
            keys[0],
            lambda node: node.ask(lambda client: self._settle(keys, arguments, client)),
            lambda answer: _settled(answer, len(ended.used)),
        )

    def rooms(self, tenant: TenantId, counters: Sequence[Used], at_ms: int | None = None) -> Sequence[Room]:
        """What counters say, of the windows at a time, left out now; nothing is counted, and `amount` has no meaning.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """

        def call(node: Node) -> Any:
            when_ms = self._now_ms(node.name) if at_ms is None else at_ms
            keys, values = [raises_key(tenant)], list[Any]()
            for used in counters:
                start_ms, end_ms = self._span(used.window, when_ms)
                keys.append(window_key(tenant, used.counter, used.window, start_ms))
                values += (used.counter, _period_us(used.window), end_ms, min(max(0, used.most), AMOUNT_MAX))
            return node.ask(lambda client: self._read(keys, _packed("", values), client))

        return self._asked(raises_key(tenant), call, lambda answer: _read(answer, len(counters)))

    # -- windows -------------------------------------------------------------------------------------------

    def _span(self, window: Window, now_ms: int) -> tuple[int, int]:
        """Start and end of a calendar's window; (0, 0) of a sliding one."""
        if window.sliding_s:
            return 0, 0
        found = self._spans.get(window)
        if found is None or not found[0] <= now_ms < found[1]:
            try:
                found = window_at(window, now_ms)
            except (KeyError, ValueError, OverflowError):  # a zone that this machine doesn't have
                raise NotCountedError("window: can't be computed") from None
            self._spans.put(window, found)
        return found

    def _given_back(self, asked: Reservation, claimed: set[str]) -> dict[str, Claim]:
        out = {}
        for claim in asked.replaces:
            start_ms, _ = self._span(claim.window, asked.replaces_ms)
            if (key := window_key(asked.tenant, claim.counter, claim.window, start_ms)) not in claimed:
                out[key] = claim
        return out

    def _now_ms(self, node: str) -> int:
        """Redis' time, as far as is known."""
        return time.time_ns() // 1_000_000 + self._ahead_ms.get(node, 0)

    def _learn(self, node: str, now_ms: int) -> None:
        self._ahead_ms[node] = now_ms - time.time_ns() // 1_000_000

    # -- Redis ---------------------------------------------------------------------------------------------

    def _asked(self, key: str, call: Callable[[Node], Any], parsed: Callable[[Any], T | None]) -> T:
        name = _UNKNOWN
        try:
            node = self._nodes.node(key)
            name = node.name
            self._ask_leave(name)
            answer = call(node)
        except ClusterDownError:
            raise self._failed(name, "CLUSTERDOWN", alive=False) from None
        except redis.ResponseError as error:
            raise self._failed(name, _code(error), alive=True) from None
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(name, type(error).__name__, alive=False) from None
        found = parsed(answer)
        if found is None:
            raise self._failed(name, "unexpected answer", alive=True)
        self._succeeded(name)
        return found

    def _ask_leave(self, name: str) -> None:
        with self._lock:
            if name not in self._breakers:
                self._breakers[name] = Breaker()
                _breaker_open.set(0.0, redis=name)
            allowed = self._breakers[name].allows(time.monotonic())
        if not allowed:
            raise NotCountedError("redis: breaker open")

    def _failed(self, name: str, kind: str, *, alive: bool) -> NotCountedError:
        _failures.inc(kind=kind)
        now = time.monotonic()
        with self._lock:
            if (breaker := self._breakers.get(name)) is not None:
                breaker.succeeded() if alive else breaker.failed(now)
                _breaker_open.set(float(breaker.open), redis=name)
            quiet = name in self._out or now - self._logged.get(name, -_QUIET_S) < _QUIET_S
            if not quiet:
                self._logged[name] = now
                self._out.add(name)
        if not quiet:
            logs.event(_log, logging.WARNING, "rate limits can't be counted", kind=kind, redis=name)
        return NotCountedError(f"redis: {kind}", maybe=not alive)

    def _succeeded(self, name: str) -> None:
        with self._lock:
            self._breakers[name].succeeded()
            was_out = {name, _UNKNOWN} & self._out
            self._out -= was_out
        if was_out:
            _breaker_open.set(0.0, redis=name)
            logs.event(_log, logging.WARNING, "rate limits are counted again", redis=name)


def _scripts(*names: str) -> list[Script]:
    folder = resources.files("tenantgate.limits").joinpath("redis_scripts")
    common = folder.joinpath("counters.lua").read_text("utf-8")
    return [Script(common + folder.joinpath(f"{name}.lua").read_text("utf-8")) for name in names]


# -- arguments and answers ----------------------------------------------------------------------------------


def _period_us(window: Window) -> int:
    return window.sliding_s * 1_000_000


@lru_cache(maxsize=1000)
def _times(
    window: Window, requests: bool, lifetime_ms: int, start_ms: int, end_ms: int
) -> tuple[int, int, int, int]:
    """The period, how long a reservation may live, how long this one does, and how long the counter is kept."""
    counted = Counted.REQUESTS if requests else Counted.COST
    return (
        _period_us(window),
        life_ms(window, counted),
        life_ms(window, counted, lifetime_ms),
        kept_ms(window, counted, lifetime_ms, start_ms, end_ms),
    )


def _reserving(asked: Reservation, spans: Sequence[tuple[int, int]], given: Sequence[Claim]) -> list[Any]:
    worst = min(max(0, asked.worst_tokens), TOKENS_MAX)
    out: list[Any] = [
        len(asked.claims), worst, min(worst, max(0, asked.expected_tokens)),
        _FINAL if asked.final else int(bool(asked.replaces)),
    ]  # fmt: skip
    for claim, (start_ms, end_ms) in zip(asked.claims, spans, strict=True):
        window, most = claim.window, claim.most
        requests = claim.counted is _BY_REQUEST
        times = _times(window, requests, asked.lifetime_ms, start_ms, end_ms)
        fixed, each, rest = amounts_of(claim)
        tight = claim.on_tight
        flags = (
            (_EXPECTED if claim.reserve is _PROBABLE else 0)
            + (_SHRINK if tight is _SHRINKS else _ADMIT if tight is _ADMITS else 0)
            + (_SHADOW if claim.shadow else 0)
            + (_REQUESTS if requests else 0)
        )
        if not 0 <= most <= AMOUNT_MAX:
            most = min(max(0, most), AMOUNT_MAX)
        out += (
            claim.counter, *times, start_ms, end_ms, run_width_us(window, most), most, fixed, each, rest,
            claim.min_tokens, flags,
        )  # fmt: skip
    for claim in given:
        out += (_period_us(claim.window), life_ms(claim.window, claim.counted))
    return out


def _settling(ended: Settlement, spans: Sequence[tuple[int, int]]) -> list[Any]:
    out: list[Any] = [len(ended.used), _CERTAINTIES[ended.certainty], _SETTLED_MS]
    for used, (start_ms, end_ms) in zip(ended.used, spans, strict=True):
        window, counted, most = used.window, used.counted, min(max(0, used.most), AMOUNT_MAX)
        amount = min(max(0, used.amount), AMOUNT_MAX)
        out += (
            used.counter, _period_us(window), life_ms(window, counted),
            kept_ms(window, counted, DAY_MS, start_ms, end_ms), end_ms, run_width_us(window, AMOUNT_MAX), most,
            amount, amount if used.known is None else min(max(0, used.known), amount), int(counted is _BY_REQUEST),
        )  # fmt: skip
    return out


def _packed(id_: str, values: list[Any]) -> list[Any]:
    return [slug(id_), msgpack.packb(values)]


def _numbers(answer: Any, count: int) -> tuple[int, ...] | None:
    """So many whole numbers, at least 0; None if the answer is something else."""
    if not isinstance(answer, bytes) or len(answer) != 8 * count:
        return None
    found = struct.unpack(f">{count}q", answer)
    return None if found and min(found) < 0 else found


def _reserved(answer: Any, claims: int) -> Reserved | None:
    """The script's answer; None if it is none."""
    found = _numbers(answer, 4 + 5 * claims)
    if found is None or found[0] not in _REFUSALS:
        return None
    state, now_ms, tokens, expired = found[:4]
    by = tuple([i for i in range(claims) if found[4 + 5 * i]])
    if state and not by:
        return None
    if expired:
        _expired.inc()
    rooms = tuple([_room(found, at + 1) for at in range(4, len(found), 5)])
    return Reserved(refused=_REFUSALS[state], by=by, max_tokens=tokens, rooms=rooms, now_ms=now_ms)


def _settled(answer: Any, counters: int) -> Sequence[Room] | None:
    found = _numbers(answer, 3 + 4 * counters)
    if found is None:
        return None
    if found[2]:
        _expired.inc()
    return tuple(_room(found, at) for at in range(3, len(found), 4))


def _read(answer: Any, counters: int) -> Sequence[Room] | None:
    found = _numbers(answer, 1 + 8 * counters)
    if found is None:
        return None
    return tuple(
        replace(_room(found, at), uncertain=Uncertain(*found[at + 4 : at + 8]))
        for at in range(1, len(found), 8)
    )


def _room(found: Sequence[int], at: int) -> Room:
    return Room(found[at], found[at + 1], found[at + 2], found[at + 3])


def _code(error: redis.ResponseError) -> str:
    """The error's code, as ``WRONGTYPE``, or its class: the text may quote an argument."""
    code = str(error).split(" ", 1)[0]
    return code if code.isupper() and code.isalpha() else type(error).__name__
