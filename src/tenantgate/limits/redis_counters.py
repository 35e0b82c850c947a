"""Windows in Redis: one call a request, a short time-out, a circuit breaker for each node."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import ClusterDownError

from tenantgate.limits.core.limit import Limit
from tenantgate.limits.core.ports import NotCountedError
from tenantgate.limits.core.window import MICROSECONDS, Decision, Room, run_width_us
from tenantgate.store.breaker import Breaker
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Nodes

__all__ = ["RedisCounters"]

_log: Final = logging.getLogger("tenantgate.limits")
_QUIET_S: Final = (
    10.0  # between the log lines of two outages, so that a Redis that fails now and then doesn't fill it
)
_UNKNOWN: Final = ""  # instead of a node, where a cluster has none for a key

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


class RedisCounters:
    """The windows of one Redis or one cluster; thread-safe."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        text = resources.files("tenantgate.limits").joinpath("redis_scripts", "count.lua").read_text("utf-8")
        # The client never connects: a script only needs an encoding.
        self._count = redis.Redis().register_script(text)
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._out: set[str] = set()
        self._logged: dict[str, float] = {}

    def count(self, keys: Sequence[str], limits: Sequence[Limit]) -> Decision:
        """Count one request in the windows under these keys, which are of one tenant; or in none.

        Raises:
            NotCountedError: Redis failed, or the breaker is open.
        """
        name = _UNKNOWN
        try:
            node = self._nodes.node(keys[0])
            name = node.name
            self._ask_leave(name)
            answer = node.ask(lambda client: self._count(keys, _arguments(limits), client=client))
        except ClusterDownError:
            raise self._failed(name, "CLUSTERDOWN", alive=False) from None
        except redis.ResponseError as error:
            raise self._failed(name, _code(error), alive=True) from None
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(name, type(error).__name__, alive=False) from None
        decision = _decision(answer, limits)
        if decision is None:
            raise self._failed(name, "unexpected answer", alive=True)
        self._succeeded(name)
        return decision

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
        return NotCountedError(f"redis: {kind}")

    def _succeeded(self, name: str) -> None:
        with self._lock:
            self._breakers[name].succeeded()
            was_out = {name, _UNKNOWN} & self._out
            self._out -= was_out
        if was_out:
            _breaker_open.set(0.0, redis=name)
            logs.event(_log, logging.WARNING, "rate limits are counted again", redis=name)


def _arguments(limits: Sequence[Limit]) -> list[int]:
    return [n for limit in limits for n in (limit.most, limit.period * MICROSECONDS, run_width_us(limit))]


def _decision(answer: Any, limits: Sequence[Limit]) -> Decision | None:
    """The script's answer; None if it is none."""
    if not isinstance(answer, list) or len(answer) != 1 + 2 * len(limits):
        return None
    if not all(isinstance(n, int) and n >= 0 for n in answer):
        return None
    rooms = tuple(
        Room(limit, remaining, wait_us)
        for limit, remaining, wait_us in zip(limits, answer[1::2], answer[2::2], strict=True)
    )
    counted = answer[0] == 1
    return Decision(counted, rooms) if counted or any(not room.remaining for room in rooms) else None


def _code(error: redis.ResponseError) -> str:
    """The error's code, as ``WRONGTYPE``, or its class: the text may quote an argument."""
    code = str(error).split(" ", 1)[0]
    return code if code.isupper() and code.isalpha() else type(error).__name__
