"""Exemptions and counts of the guard's process, synchronised with Redis in the background.

One thread a process writes what was counted and reads the exemptions of the tenants it has seen lately, once a
second; no request waits for Redis. While Redis is gone the last known exemptions hold until they expire, and what was
counted waits, up to a bound. Nothing that is stored holds any text of a request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import AskError, ClusterDownError

from tenantgate.guard.core.exemptions import Exemption, in_force
from tenantgate.guard.stored import Keys, OpenedExemptions, add_event, day_of, open_exemptions
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tenantgate.store.config import RedisConfig
    from tenantgate.store.redis_nodes import Node
    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["Registry", "shared"]

_log: Final = logging.getLogger("tenantgate.guard")
_REGISTRIES: Final = 64  # of a process
_EVERY_S: Final = 1.0
_FORGET_S: Final = 600.0  # after which a tenant without requests is no longer asked for
_TIMEOUT_MS: Final = 500  # nobody waits
_COUNTS_DAYS: Final = 35
_EXAMPLES_DAYS: Final = 30
_WAITING: Final = 2_000  # counts and events that wait for Redis
_AT_ONCE: Final = 500  # tenants in one round trip

_lost: Final = metrics.counter(
    "tenantgate_guard_events_lost_total",
    "Events and counts that were dropped because Redis was gone too long.",
)
_unauthenticated: Final = metrics.counter(
    "tenantgate_guard_exemptions_unauthenticated_total",
    "Exemptions in Redis that the tenant's key didn't seal; they count for nothing.",
    ("tenant",),
)


@dataclass(slots=True)
class _Waiting:
    """Counts, events and examples of one tenant that wait to be written."""

    counts: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    examples: dict[str, tuple[bytes, ...]] = field(default_factory=dict)


class Registry:
    """Exemptions as this process knows them, and counts, events and examples for Redis; thread-safe.

    Without `background` nobody calls `synchronise` but the owner.
    """

    def __init__(self, config: RedisConfig, *, background: bool = True) -> None:
        self._background = background
        self._nodes = connect(config, timeout_ms=max(_TIMEOUT_MS, config.timeout_ms))
        self._lock = threading.Lock()
        self._known: dict[TenantId, tuple[Exemption, ...]] = {}
        self._refused: dict[TenantId, tuple[str, ...]] = {}
        self._sealers: dict[TenantId, TenantSealer] = {}
        self._seen: dict[TenantId, float] = {}
        self._counts: Counter[tuple[TenantId, str]] = Counter()
        self._events: deque[tuple[TenantId, dict[str, str]]] = deque(maxlen=_WAITING)
        self._examples: dict[tuple[TenantId, str], tuple[bytes, ...]] = {}
        self._kept: dict[tuple[TenantId, str], int] = {}
        self._thread = BackgroundThread(
            "guard-registry", self._step, log=_log, failed="guard registry: redis failed", again_s=_EVERY_S
        )

    def exemptions(self, tenant: TenantId, sealer: TenantSealer, *, approval: bool) -> tuple[Exemption, ...]:
        """Those of the tenant that hold now, as known in this process; at first none, then within a second."""
        now = time.time()
        new = tenant not in self._seen
        self._sealers[tenant] = sealer
        self._seen[tenant] = now
        self._start(now=new)
        return in_force(self._known.get(tenant, ()), now, approval=approval)

    def count(self, tenant: TenantId, names: Iterable[str]) -> None:
        """Count each of ``rule|mode|what``."""
        with self._lock:
            if len(self._counts) < _WAITING:
                self._counts.update((tenant, name) for name in names)
            else:
                _lost.inc()
        self._start()

    def event(self, tenant: TenantId, fields: dict[str, str]) -> None:
        """Note an event, without any text of the request."""
        if len(self._events) == _WAITING:
            _lost.inc()
        self._events.append((tenant, fields))
        self._start()

    def example(self, tenant: TenantId, rule: str, sealed: bytes, *, most: int) -> None:
        """Keep a sealed example of what the rule found."""
        with self._lock:
            if len(self._examples) < _WAITING:
                self._examples[tenant, rule] = (*self._examples.get((tenant, rule), ()), sealed)[-most:]
            self._kept[tenant, rule] = most
        self._start()

    def _start(self, *, now: bool = False) -> None:
        if self._background:
            (self._thread.wake if now else self._thread.start)()

    def _step(self) -> float:
        self.synchronise()
        return _EVERY_S

    def synchronise(self) -> None:
        """Write what waits, read the exemptions of tenants seen lately: two round trips for some hundreds of tenants.

        A node of a cluster that fails holds up its own tenants only; all are tried before the first error is raised.
        """
        self._forget_old(time.time())
        waiting = self._take()
        errors: list[Exception] = []
        for node, tenants in self._by_node([*self._seen, *waiting], errors):
            try:
                for start in range(0, len(tenants), _AT_ONCE):
                    self._exchange(node, tenants[start : start + _AT_ONCE], waiting, errors)
            except (redis.RedisError, OSError) as error:
                errors.append(error)
        for tenant, mine in waiting.items():
            self._put_back(tenant, mine)
        if errors:
            raise errors[0]

    def _forget_old(self, now: float) -> None:
        for tenant, seen in list(self._seen.items()):
            if now - seen > _FORGET_S:
                for known in (self._seen, self._known, self._refused, self._sealers):
                    known.pop(tenant, None)

    def _by_node(
        self, tenants: Iterable[TenantId], errors: list[Exception]
    ) -> Iterable[tuple[Node, list[TenantId]]]:
        groups: dict[str, tuple[Node, list[TenantId]]] = {}
        for tenant in dict.fromkeys(tenants):
            try:
                node = self._nodes.node(Keys(tenant).index)
            except redis.RedisError as error:
                errors.append(error)
            else:
                groups.setdefault(node.name, (node, []))[1].append(tenant)
        return groups.values()

    def _exchange(
        self,
        node: Node,
        tenants: Sequence[TenantId],
        waiting: dict[TenantId, _Waiting],
        errors: list[Exception],
    ) -> None:
        """Write for tenants of one node and read their exemptions; what is written no longer waits."""
        now = time.time()

        def write(client: Any) -> tuple[list[int], list[Any]]:
            pipe, ends = client.pipeline(transaction=False), []
            for tenant in tenants:
                if tenant in waiting:
                    self._add(pipe, tenant, waiting[tenant], now)
                pipe.zrangebyscore(Keys(tenant).index, now, "+inf")
                ends.append(len(pipe))
            return ends, pipe.execute(raise_on_error=False)

        ends, answers = node.ask(write)
        names: dict[TenantId, list[str]] = {}
        for tenant, first, end in zip(tenants, [0, *ends], ends, strict=False):
            error = next((a for a in answers[first:end] if isinstance(a, Exception)), None)
            if error is None:
                waiting.pop(tenant, None)
                names[tenant] = [name.decode() for name in answers[end - 1]]
                continue
            errors.append(error)
            node.learn(error)
            # Where its slot has moved, nothing was done; what is refused would be refused again.
            if not isinstance(error, AskError | ClusterDownError) and tenant in waiting:
                del waiting[tenant]
                _lost.inc()
        self._read(node, names)

    def _read(self, node: Node, names: dict[TenantId, list[str]]) -> None:
        """Read the exemptions of these names."""
        reading = [tenant for tenant, found in names.items() if found]

        def get(client: Any) -> list[Any]:
            pipe = client.pipeline(transaction=False)
            for tenant in reading:
                pipe.mget([Keys(tenant).exemption(name) for name in names[tenant]])
            found: list[Any] = pipe.execute()
            return found

        values = dict(zip(reading, node.ask(get) if reading else [], strict=True))
        for tenant, found in names.items():
            sealer = self._sealers.get(tenant)
            if sealer is not None:
                stored = dict(zip(found, values.get(tenant, ()), strict=False))
                self._learn(tenant, open_exemptions(stored, Keys(tenant), sealer))

    def _learn(self, tenant: TenantId, opened: OpenedExemptions) -> None:
        """Take over what was read, and report once what the tenant's key didn't seal."""
        self._known[tenant] = opened.opened
        new = len(set(opened.refused) - set(self._refused.get(tenant, ())))
        self._refused[tenant] = opened.refused
        if new:
            _unauthenticated.inc(new, tenant=tenant.slug)
            logs.event(
                _log,
                logging.ERROR,
                "exemptions in redis that the tenant's key didn't seal count for nothing",
                tenant=tenant.slug,
                exemptions=new,
            )

    def _take(self) -> dict[TenantId, _Waiting]:
        """Take out what waits, by tenant."""
        out: dict[TenantId, _Waiting] = defaultdict(_Waiting)
        with self._lock:
            counts, self._counts = self._counts, Counter()
            examples, self._examples = self._examples, {}
        for (tenant, name), n in counts.items():
            out[tenant].counts[name] = n
        for (tenant, rule), sealed in examples.items():
            out[tenant].examples[rule] = sealed
        for _ in range(len(self._events)):
            tenant, fields = self._events.popleft()
            out[tenant].events.append(fields)
        return dict(out)

    def _put_back(self, tenant: TenantId, mine: _Waiting) -> None:
        with self._lock:
            self._counts.update({(tenant, name): n for name, n in mine.counts.items()})
            for rule, sealed in mine.examples.items():
                self._examples.setdefault((tenant, rule), sealed)
        room = _WAITING - len(self._events)
        if room < len(mine.events):
            _lost.inc(len(mine.events) - room)
        self._events.extendleft((tenant, fields) for fields in reversed(mine.events[-room:] if room else []))

    def _add(self, pipe: Any, tenant: TenantId, mine: _Waiting, now: float) -> None:
        keys, day = Keys(tenant), day_of(now)
        for name, n in mine.counts.items():
            pipe.hincrby(keys.counts(day), name, n)
        if mine.counts:
            pipe.expire(keys.counts(day), _COUNTS_DAYS * 86_400)
        for fields in mine.events:
            add_event(pipe, keys, fields)
        for rule, sealed in mine.examples.items():
            key = keys.examples(rule)
            pipe.lpush(key, *sealed)
            pipe.ltrim(key, 0, self._kept[tenant, rule] - 1)
            pipe.expire(key, _EXAMPLES_DAYS * 86_400)


_registries: Final[Shared[Registry]] = Shared(_REGISTRIES)


def shared(config: RedisConfig) -> Registry:
    """The registry of this Redis, one for the whole process."""
    return _registries.get(config, lambda: Registry(config))
