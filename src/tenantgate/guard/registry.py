"""Exemptions, counts and events of the guard in Redis, without a trip per request.

One thread a process writes what was counted and reads the exemptions of the tenants it has seen lately, once a
second. While Redis is gone the last known exemptions hold until they expire, and what was counted waits, up to a
bound. Nothing that is stored holds any text of a request.

An exemption is sealed under the tenant's key for its own place in Redis (AES-256-GCM). Whoever can write to Redis but
lacks the key can't make, change or move one: a value that doesn't open counts for nothing and is reported.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.exceptions import AskError, ClusterDownError

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.guard.core.exemptions import Exemption, State, approve, in_force, read
from tenantgate.store.redis_nodes import connect
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tenantgate.store.config import RedisConfig
    from tenantgate.store.redis_nodes import Node, Nodes
    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["GuardBook", "Keys", "Registry"]

_log: Final = logging.getLogger("tenantgate.guard")
_EVERY_S: Final = 1.0
_FORGET_S: Final = 600.0  # after which a tenant without requests is no longer asked for
_TIMEOUT_MS: Final = 500  # nobody waits
_COUNTS_DAYS: Final = 35
_EXAMPLES_DAYS: Final = 30
_EVENTS: Final = 10_000  # of a tenant
_WAITING: Final = 2_000  # counts and events that wait for Redis
_AT_ONCE: Final = 500  # tenants in one trip

_lost: Final = metrics.counter(
    "tenantgate_guard_events_lost_total",
    "Events and counts that were dropped because Redis was gone too long.",
)
_unauthenticated: Final = metrics.counter(
    "tenantgate_guard_exemptions_unauthenticated_total",
    "Exemptions in Redis that the tenant's key didn't seal; they count for nothing.",
    ("tenant",),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The names in Redis of one tenant; in braces the hash tag of Redis Cluster."""

    tenant: TenantId

    @property
    def base(self) -> str:
        """What all of them begin with."""
        return f"tg:guard:1:{{{self.tenant.slug}}}:"

    @property
    def index(self) -> str:
        """The ids of exemptions by when they end: a sorted set."""
        return f"{self.base}exemptions"

    def exemption(self, identifier: str) -> str:
        """One exemption: a string, sealed, that expires with it."""
        return f"{self.base}exemption:{identifier}"

    def counts(self, day: str) -> str:
        """What rules found on a day (``20260131``): a hash of ``rule|mode|what``."""
        return f"{self.base}counts:{day}"

    def examples(self, rule: str) -> str:
        """The latest examples of what a rule in alert found: a list, sealed."""
        return f"{self.base}examples:{rule}"

    @property
    def events(self) -> str:
        """What happened to exemptions, and what was blocked: a stream."""
        return f"{self.base}events"


class GuardBook:
    """One tenant's exemptions, counts and events, for the commands.

    Without a `sealer` exemptions can neither be read nor written.
    """

    def __init__(self, nodes: Nodes, tenant: TenantId, sealer: TenantSealer | None = None) -> None:
        self._nodes = nodes
        self._keys = Keys(tenant)
        self._sealer = sealer

    def grant(self, exemption: Exemption) -> None:
        """Store an exemption, in force or requested, and the event."""
        event = "requested" if exemption.state is State.REQUESTED else "granted"
        self._write(exemption, event, exemption.by)

    def approve(self, identifier: str, by: str) -> Exemption:
        """Put a requested exemption in force.

        Raises:
            ConfigError: there is none, or it is the same person.
        """
        approved = approve(self._one(identifier), by)
        self._write(approved, "approved", by)
        return approved

    def revoke(self, identifier: str, by: str) -> None:
        """End an exemption, also one that the tenant's key didn't seal; that needs no key.

        Raises:
            ConfigError: there is none.
        """
        if not self._ask(lambda client: client.exists(self._keys.exemption(identifier))):
            raise ConfigError(f"exemption {identifier}: this tenant has none of that id")

        def run(pipe: Any) -> None:
            pipe.delete(self._keys.exemption(identifier))
            pipe.zrem(self._keys.index, identifier)
            _add_event(pipe, self._keys, {"event": "revoked", "id": identifier, "by": by})

        self._transaction(run)

    def exemptions(self) -> list[Exemption]:
        """All that have not expired, in the order in which they end."""
        return list(self._read().opened)

    def unauthenticated(self) -> tuple[str, ...]:
        """Ids of stored exemptions that the tenant's key didn't seal."""
        return self._read().refused

    def _read(self) -> _Opened:
        def get(client: Any) -> dict[str, bytes | None]:
            names = [name.decode() for name in client.zrangebyscore(self._keys.index, time.time(), "+inf")]
            values = client.mget([self._keys.exemption(name) for name in names]) if names else []
            return dict(zip(names, values, strict=True))

        return _opened(self._ask(get), self._keys, self._needed())

    def _needed(self) -> TenantSealer:
        if self._sealer is None:
            raise ConfigError("exemptions: the encryption_key is needed")
        return self._sealer

    def counts(self, days: int) -> dict[tuple[str, str, str], int]:
        """Sums over the last `days` by (rule, mode, what)."""
        out: Counter[tuple[str, str, str]] = Counter()
        today = datetime.now(UTC).timestamp()
        for n in range(days):
            key = self._keys.counts(_day(today - 86_400 * n))
            for name, value in self._ask(lambda client, key=key: client.hgetall(key)).items():
                rule, mode, what = name.decode().split("|", 2)
                out[rule, mode, what] += int(value)
        return dict(out)

    def examples(self, rule: str) -> list[bytes]:
        """The sealed examples of a rule, the newest first."""
        return [
            bytes(value)
            for value in self._ask(lambda client: client.lrange(self._keys.examples(rule), 0, -1))
        ]

    def events(self, most: int = 50) -> list[dict[str, str]]:
        """The latest events, the newest first."""
        found = self._ask(lambda client: client.xrevrange(self._keys.events, count=most))
        return [
            {"id": identifier.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for identifier, fields in found
        ]

    def _one(self, identifier: str) -> Exemption:
        value = self._ask(lambda client: client.get(self._keys.exemption(identifier)))
        if value is None:
            raise ConfigError(f"exemption {identifier}: this tenant has none of that id")
        opened = _opened({identifier: value}, self._keys, self._needed()).opened
        if not opened:
            raise ConfigError(f"exemption {identifier}: it wasn't sealed with this encryption_key")
        return opened[0]

    def _write(self, exemption: Exemption, event: str, by: str) -> None:
        key = self._keys.exemption(exemption.id)
        sealed = self._needed().seal(exemption.to_json().encode(), key=key.encode())
        fields = {
            "event": event, "id": exemption.id, "rule": exemption.rule, "by": by, "reason": exemption.reason,
            "until": str(int(exemption.until)),
        }  # fmt: skip

        def run(pipe: Any) -> None:
            pipe.set(key, sealed, exat=int(exemption.until) + 1)
            pipe.zadd(self._keys.index, {exemption.id: exemption.until})
            _add_event(pipe, self._keys, fields)

        self._transaction(run)

    def _transaction(self, run: Any) -> None:
        def commit(client: Any) -> None:
            pipe = client.pipeline(transaction=True)
            run(pipe)
            pipe.execute()

        self._ask(commit)

    def _ask(self, call: Any) -> Any:
        try:
            return self._nodes.ask(self._keys.index, call)
        except (redis.RedisError, OSError) as error:
            raise EdgeError(f"redis: {type(error).__name__}") from None


@dataclass(slots=True)
class _Waiting:
    """What one tenant has to write."""

    counts: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    examples: dict[str, tuple[bytes, ...]] = field(default_factory=dict)


class Registry:
    """What the guard of a process knows of exemptions, and what it has counted; thread-safe.

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
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._down = False

    def exemptions(self, tenant: TenantId, sealer: TenantSealer, *, approval: bool) -> tuple[Exemption, ...]:
        """Those of the tenant that hold now, as known in this process; at first none, then within a second."""
        now = time.time()
        new = tenant not in self._seen
        self._sealers[tenant] = sealer
        self._seen[tenant] = now
        self._start()
        if new:
            self._wake.set()
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

    def _start(self) -> None:
        if not self._background:
            return
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive() or self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._run, name="guard-registry", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.synchronise()
                self._down = False
            except Exception as error:  # noqa: BLE001 - the thread must live as long as the process
                if not self._down:
                    logs.event(_log, logging.WARNING, "guard registry: redis failed", **logs.describe(error))
                self._down = True
            self._wake.wait(_EVERY_S)
            self._wake.clear()

    def synchronise(self) -> None:
        """Write what waits, read the exemptions of tenants seen lately: two trips for some hundreds of tenants.

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
        """What tenants of one node have to write and read; what is written no longer waits."""
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
                self._learn(tenant, _opened(stored, Keys(tenant), sealer))

    def _learn(self, tenant: TenantId, opened: _Opened) -> None:
        """Take over what was read, and report once what the tenant's key didn't seal."""
        self._known[tenant] = opened.opened
        new = len(set(opened.refused) - set(self._refused.get(tenant, ())))
        self._refused[tenant] = opened.refused
        if new:
            _unauthenticated.inc(new, tenant=tenant.slug)
            logs.event(
                _log, logging.ERROR, "exemptions in redis that the tenant's key didn't seal count for nothing",
                tenant=tenant.slug, exemptions=new,
            )  # fmt: skip

    def _take(self) -> dict[TenantId, _Waiting]:
        """What waits, by tenant; it is gone here."""
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
        keys, day = Keys(tenant), _day(now)
        for name, n in mine.counts.items():
            pipe.hincrby(keys.counts(day), name, n)
        if mine.counts:
            pipe.expire(keys.counts(day), _COUNTS_DAYS * 86_400)
        for fields in mine.events:
            _add_event(pipe, keys, fields)
        for rule, sealed in mine.examples.items():
            key = keys.examples(rule)
            pipe.lpush(key, *sealed)
            pipe.ltrim(key, 0, self._kept[tenant, rule] - 1)
            pipe.expire(key, _EXAMPLES_DAYS * 86_400)


def new_id() -> str:
    """An exemption's id: ten letters and digits."""
    return secrets.token_hex(5)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")


@dataclass(frozen=True, slots=True)
class _Opened:
    """Stored exemptions: those that the tenant's key has sealed, and the ids of the others."""

    opened: tuple[Exemption, ...]
    refused: tuple[str, ...]


def _opened(stored: Mapping[str, bytes | None], keys: Keys, sealer: TenantSealer) -> _Opened:
    """Open exemptions by id; one that expired meanwhile has no value."""
    opened, refused = [], []
    for name, value in stored.items():
        if value is None:
            continue
        plain = sealer.open(value, key=keys.exemption(name).encode())
        exemption = None if plain is None else read(plain)
        if exemption is None or exemption.id != name:
            refused.append(name)
        else:
            opened.append(exemption)
    return _Opened(tuple(opened), tuple(refused))


def _add_event(pipe: Any, keys: Keys, fields: dict[str, str]) -> None:
    pipe.xadd(keys.events, {**fields, "at": str(int(time.time()))}, maxlen=_EVENTS, approximate=True)


_registries: Final[dict[RedisConfig, Registry]] = {}
_registries_lock: Final = threading.Lock()


def shared(config: RedisConfig) -> Registry:
    """The registry of this Redis, one for the whole process."""
    with _registries_lock:
        if config not in _registries:
            _registries[config] = Registry(config)
        return _registries[config]


def dumps(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
