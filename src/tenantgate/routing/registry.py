"""Health of deployments and switches as this process knows them, synchronised with Redis in the background.

No request waits for Redis. A thread reads, twice a second, the health of the deployments that were used lately and
all switches, and writes what this process has learnt: each record is replaced only if it still is the one that was
read, else what was learnt is put on top of the newer one. While Redis is gone the process goes by what it knows.
"""

from __future__ import annotations

import json
import logging
import os
import random
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.routing.core.circuit import Effect, effect_of
from tenantgate.routing.core.health import Health, Result, read_health, with_result, with_uses, write_health
from tenantgate.routing.core.share import WINDOW_S, Use
from tenantgate.routing.core.switches import Switch, concerns, drained_by, within
from tenantgate.routing.stored import (
    INDEX,
    SWITCHES,
    add_event,
    health_key,
    open_switches,
    probe_key,
    replace_script,
)
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Nodes
    from tenantgate.store.sealing import GatewaySealer

__all__ = ["Deployment", "Registry"]

_log: Final = logging.getLogger("tenantgate.routing")
_EVERY_S: Final = 0.5
_AGAIN_S: Final = 1.0
_MOST: Final = 5_000  # deployments in memory
_WATCHED_S: Final = 600.0  # since the last request that could have gone there
_LIFE_S: Final = 3600.0  # of a record in Redis
_WAITING: Final = 200  # results of a deployment that wait for Redis
_ROUTINE_S: Final = 1.0  # between two writes of one deployment that change no circuit
_AT_ONCE: Final = 500
_LEASE_S: Final = 3.0  # of the leave to try a deployment again, which is renewed while the try lasts
_WANTED_S: Final = 10.0
_ATTEMPTS: Final = 3

_CERTAIN: Final = 3  # refusals by 403 in a row, each of which alone may be for what a client asked

_failures: Final = metrics.counter(
    "tenantgate_routing_redis_failures_total",
    "Exchanges of health and switches with Redis that failed.",
    ("kind",),
)
_unauthenticated: Final = metrics.counter(
    "tenantgate_routing_unauthenticated_total",
    "Records in Redis that the gateway's key didn't seal, by kind (health, switch, probe); they count for nothing.",
    ("kind",),
)
_drained: Final = metrics.gauge("tenantgate_routing_drained", "Switches that drain targets now.")
_refused: Final = metrics.counter(
    "tenantgate_routing_credentials_refused_total",
    "Tries at which a provider refused the gateway's credential (401, 403).",
    ("provider", "model"),
)


@dataclass(eq=False)
class Deployment:
    """One deployment in this process' memory; the registry's lock guards it.

    Attributes:
        digest: its name in Redis, 32 hexadecimal digits.
        about: what `status` shows of it: provider, model, host.
        health: as known, with all that this process has learnt.
        seen: when a request could have gone there last.
    """

    digest: str
    about: Mapping[str, str]
    health: Health = field(default_factory=Health)
    seen: float = 0.0
    requests_since: float = 0.0
    """Requests that this process sent since the provider told its limits last."""
    tokens_since: float = 0.0
    results: deque[Result] = field(default_factory=lambda: deque(maxlen=_WAITING))
    uses: dict[str, Use] = field(default_factory=dict)
    """Use in `minute` that isn't shared yet."""
    minute: int = 0
    urgent: bool = False
    written: float = 0.0
    wanted: float = 0.0
    leased: float = 0.0
    """Until when this process may try it although its circuit is half open."""
    probing: float = 0.0
    """When such a try began; 0: there is none."""
    probing_until: float = 0.0


class Registry:
    """All deployments and switches; thread-safe, and safe across forks.

    Args:
        nodes: Redis; None: this process is alone.
        keys: seal and open what is stored.
        background: whether a thread synchronises; else the owner calls `synchronise`.
        clock: Unix seconds.
    """

    def __init__(
        self,
        nodes: Nodes | None,
        keys: GatewaySealer,
        *,
        background: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nodes, self._keys, self._clock = nodes, keys, clock
        self._background = background and nodes is not None
        self._lock = threading.Lock()
        self._deployments: OrderedDict[str, Deployment] = OrderedDict()
        # Together in one value, so that nobody takes what concerns a target from other switches.
        self._switched: tuple[dict[str, Switch], dict[tuple[str, str], tuple[Switch, ...]]] = {}, {}
        self._reported: set[str] = set()
        self._events: deque[dict[str, str]] = deque(maxlen=_WAITING)
        self._alone = nodes is None
        self._random = random.SystemRandom()
        self._owner = (0, "")
        self._thread = BackgroundThread(
            "routing-registry",
            self._step,
            log=_log,
            failed="health of targets isn't shared: redis failed",
            again_s=_AGAIN_S,
        )

    def start(self) -> None:
        """Synchronise in the background."""
        if self._background:
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._thread.stop(1.0)

    # -- deployments ----------------------------------------------------------------------------------------

    def deployment(self, identity: bytes, about: Mapping[str, str]) -> Deployment:
        """The deployment with this identity, which is kept as a keyed digest only."""
        digest = self._keys.name(b"deployment\0" + identity)
        with self._lock:
            found = self._deployments.get(digest)
            if found is None:
                found = self._deployments[digest] = Deployment(digest, dict(about))
                while len(self._deployments) > _MOST:
                    self._deployments.popitem(last=False)
            return found

    def seen(self, deployments: Sequence[Deployment], now: float) -> None:
        """Note that a request could go to these."""
        new = False
        with self._lock:
            for one in deployments:
                new = new or now - one.seen > _WATCHED_S
                one.seen = now
                if one.digest not in self._deployments:  # dropped meanwhile
                    self._deployments[one.digest] = one
                self._deployments.move_to_end(one.digest)
        if self._background:
            (self._thread.wake if new else self._thread.start)()

    def learn(self, deployment: Deployment, result: Result) -> None:
        """Take in the result of a try, here at once and everywhere soon."""
        effect = effect_of(result.outcome)
        with self._lock:
            before = deployment.health
            deployment.health = with_result(before, result)
            deployment.results.append(result)
            if result.limits.requests is not None or result.limits.tokens is not None:
                deployment.requests_since = deployment.tokens_since = 0.0
            changed = effect is Effect.SUCCESS and (
                before.circuit.failures or before.circuit.credential_refused
            )
            if effect in (Effect.FAILURE, Effect.CREDENTIAL_REFUSED) or changed:
                deployment.urgent = True
            if effect is not Effect.SUCCESS or changed:
                deployment.probing = 0.0
            after = deployment.health.circuit
            first_refusal = effect is Effect.CREDENTIAL_REFUSED and (
                after.failures == _CERTAIN
                if result.outcome == "http_403"
                else not before.circuit.credential_refused
            )
        if effect is Effect.CREDENTIAL_REFUSED:
            provider, model = deployment.about.get("provider", ""), deployment.about.get("model", "")
            _refused.inc(provider=provider, model=model)
            if first_refusal:
                about = {
                    "provider": provider,
                    "model": model,
                    "deployment": deployment.digest[:8],
                    "outcome": result.outcome,
                }
                logs.event(_log, logging.ERROR, "a provider refuses the gateway's credential", **about)
                self._events.append({"event": "credential_refused", **about})
        if deployment.urgent and self._background:
            self._thread.wake()

    def use(self, deployment: Deployment, tag: str, use: Use, now: float) -> None:
        """Count one request of a tenant for a deployment."""
        with self._lock:
            deployment.requests_since += use.requests
            deployment.tokens_since += use.tokens
            deployment.health = with_uses(deployment.health, {tag: use}, now)
            if (minute := int(now // WINDOW_S)) != deployment.minute:
                deployment.minute = minute
                deployment.uses.clear()
            old = deployment.uses.get(tag, Use())
            deployment.uses[tag] = Use(use.weight, old.requests + use.requests, old.tokens + use.tokens)

    # -- tries of what is out -----------------------------------------------------------------------------------

    def may_probe(self, deployment: Deployment, now: float) -> bool:
        """Whether this process may try a deployment whose circuit is half open, with one request."""
        with self._lock:
            deployment.wanted = now
            if deployment.probing and now < deployment.probing_until:
                return False
            return self._alone or now < deployment.leased

    def probe(self, deployment: Deployment, now: float, until: float) -> bool:
        """Let a request try it, unless another one does; `until` when its end is heard of at the latest."""
        with self._lock:
            if deployment.probing and now < deployment.probing_until:
                return False
            deployment.probing, deployment.probing_until = now, until
            return True

    # -- switches ----------------------------------------------------------------------------------------------

    @property
    def switches(self) -> Sequence[Switch]:
        """All switches that are known."""
        return tuple(self._switched[0].values())

    def go_by(self, switches: Mapping[str, Switch]) -> None:
        """Let these switches hold, by any name, in place of all others."""
        if switches != self._switched[0]:
            self._switched = dict(switches), {}

    def drained_until(self, tenant: str, target: str, now: float) -> float | None:
        """Time until which a tenant's target is drained, infinite for no end; None: it isn't."""
        switches, concerning = self._switched
        if not switches:
            return None
        mine = concerning.get((tenant, target))
        if mine is None:
            mine = tuple(s for s in switches.values() if concerns(s, tenant, target))
            if len(concerning) < _MOST:
                concerning[tenant, target] = mine
        found = drained_by(mine, tenant, target, now) if mine else None
        if found is None:
            return None
        return float("inf") if found.until is None else found.until

    # -- with Redis --------------------------------------------------------------------------------------------

    def _step(self) -> float:
        try:
            self.synchronise()
        except (redis.RedisError, OSError) as error:
            self._alone = True
            _failures.inc(kind=type(error).__name__)
            raise
        self._alone = False
        return _EVERY_S * self._random.uniform(0.9, 1.1)

    def synchronise(self) -> None:
        """Read what others have learnt and write what this process has.

        Raises:
            redis.RedisError, OSError: Redis failed; what is unwritten waits.
        """
        if self._nodes is None:
            return
        now = self._clock()
        with self._lock:
            watched = [d for d in self._deployments.values() if now - d.seen < _WATCHED_S or d.results]
        for start in range(0, max(len(watched), 1), _AT_ONCE):
            some = watched[start : start + _AT_ONCE]
            self._nodes.ask(INDEX, partial(self._exchange, some=some, first=start == 0))

    def _exchange(self, client: Any, *, some: Sequence[Deployment], first: bool) -> None:
        pipe, events = client.pipeline(transaction=False), self._taken_events() if first else []
        if first:
            pipe.hgetall(SWITCHES)
        if some:
            pipe.mget([health_key(d.digest) for d in some])
        for fields in events:
            add_event(pipe, fields)
        try:
            answers = pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError):
            self._events.extendleft(reversed(events))
            raise
        if first and not self._is_error(answers[0], "switches"):
            self._take_switches(answers[0])
        stored = answers[1 if first else 0] if some else []
        if self._is_error(stored, "health"):
            return
        for deployment, raw in zip(some, stored, strict=True):
            try:
                self._update(client, deployment, raw)
                self._lease(client, deployment)
            except redis.ResponseError as error:
                # Somebody else's value of another type: no reason to leave the others alone.
                self._is_error(error, deployment.digest)

    def _is_error(self, answer: Any, name: str) -> bool:
        """Whether Redis has refused a command, which is said once for each name."""
        if not isinstance(answer, Exception):
            return False
        _failures.inc(kind=type(answer).__name__)
        if f"error:{name}" not in self._reported and len(self._reported) < _MOST:
            self._reported.add(f"error:{name}")
            logs.event(_log, logging.ERROR, "redis refuses health or switches", kind=type(answer).__name__)
        return True

    def _taken_events(self) -> list[dict[str, str]]:
        out = []
        while self._events:
            out.append(self._events.popleft())
        return out

    def _update(self, client: Any, deployment: Deployment, raw: bytes | None) -> None:
        """Merge what is stored with what waits, and write it where it should be."""
        key = health_key(deployment.digest)
        for _ in range(_ATTEMPTS):
            now = self._clock()
            with self._lock:
                results = tuple(deployment.results)
                uses = dict(deployment.uses) if deployment.minute == int(now // WINDOW_S) else {}
                stored = self._opened(raw, key, deployment.digest)
                health = deployment.health if stored is None else _merged(stored, results, uses, now)
                due = deployment.urgent or (
                    (results or (uses and _limited(health))) and now - deployment.written >= _ROUTINE_S
                )
                deployment.health = health
                self._end_probe(deployment)
            if not due:
                return
            sealed = self._keys.seal(write_health(health, deployment.about), key=key.encode())
            life_ms, ends_ms = int(_LIFE_S * 1000), int((now + _LIFE_S) * 1000)
            replaced = replace_script()(
                keys=[key, INDEX],
                args=[raw or b"", sealed, life_ms, deployment.digest, ends_ms],
                client=client,
            )
            if replaced:
                self._written(deployment, results, uses, now)
                return
            raw = client.get(key)

    def _written(
        self, deployment: Deployment, results: Sequence[Result], uses: Mapping[str, Use], now: float
    ) -> None:
        with self._lock:
            for result in results:
                if deployment.results and deployment.results[0] is result:
                    deployment.results.popleft()
            for tag, use in uses.items():
                left = deployment.uses.pop(tag, None)
                if left is not None and left.requests > use.requests:
                    more = Use(left.weight, left.requests - use.requests, left.tokens - use.tokens)
                    deployment.uses[tag] = more
            deployment.written = now
            deployment.urgent = any(effect_of(r.outcome) is not Effect.SUCCESS for r in deployment.results)

    def _opened(self, raw: bytes | None, key: str, digest: str) -> Health | None:
        if raw is None:
            return None
        plain = self._keys.open(raw, key=key.encode())
        found = None if plain is None else read_health(plain)
        if found is None:
            self._report("health", digest)
            return None
        return found[0]

    def _end_probe(self, deployment: Deployment) -> None:
        """A try has ended if anything was learnt since: its log phase may have run in another process."""
        circuit = deployment.health.circuit
        if deployment.probing and max(circuit.failed_at, circuit.answered_at) > deployment.probing:
            deployment.probing = 0.0

    def _lease(self, client: Any, deployment: Deployment) -> None:
        """Ask for the leave to try a deployment again, or renew it while a request does."""
        now = self._clock()
        with self._lock:
            running = bool(deployment.probing) and now < deployment.probing_until
            wanted = running or now - deployment.wanted < _WANTED_S
            held = now < deployment.leased
        if not wanted or (held and not running and deployment.leased - now > _EVERY_S):
            return
        key = probe_key(deployment.digest)
        raw = client.get(key)
        if raw is not None and (other := self._lessee(raw, key, deployment.digest)) is not None:
            owner, until = other
            if owner != self._me() and now < until <= now + 2 * _LEASE_S:
                deployment.leased = 0.0
                return
        until = now + _LEASE_S
        sealed = self._keys.seal(json.dumps([self._me(), until]).encode(), key=key.encode())
        args = [raw or b"", sealed, int(_LEASE_S * 1000), "", 0]
        got = replace_script()(keys=[key, INDEX], args=args, client=client)
        deployment.leased = until if got else 0.0

    def _lessee(self, raw: bytes, key: str, digest: str) -> tuple[str, float] | None:
        plain = self._keys.open(raw, key=key.encode())
        try:
            owner, until = json.loads(plain or b"")
            return str(owner), float(until)
        except (ValueError, TypeError):
            self._report("probe", digest)
            return None

    def _me(self) -> str:
        pid = os.getpid()
        if self._owner[0] != pid:
            self._owner = pid, secrets.token_hex(8)
        return self._owner[1]

    def _take_switches(self, stored: Mapping[bytes, bytes]) -> None:
        """Take over what is stored; what is known and stored no more still holds, until it ends or another word."""
        before = self._switched[0]
        opened, refused = open_switches(stored, self._keys)
        for name in refused:
            self._report("switch", name)
        now = self._clock()
        # Who can write to Redis, but has no key, may bring back an older one.
        newer = {n: s for n, s in opened.items() if n not in before or s.created >= before[n].created}
        known = {name: s for name, s in {**before, **newer}.items() if s.holds(now)}
        restored = [s for s in known.values() if not s.drained]
        known = {
            name: s
            for name, s in known.items()
            if not any(
                r is not s
                and r.created > s.created
                and r.tenant in (None, s.tenant)
                and within(s.scope, r.scope)
                for r in restored
            )
        }
        for name, switch in known.items():
            if before.get(name) != switch:
                logs.event(
                    _log,
                    logging.WARNING,
                    "targets are drained" if switch.drained else "targets are restored",
                    scope=switch.scope,
                    of_tenant=switch.tenant,
                    by=switch.by,
                    reason=switch.reason,
                    until=switch.until,
                )
        self.go_by(known)
        _drained.set(sum(s.drained for s in known.values()))

    def _report(self, kind: str, name: str) -> None:
        """Say once of each record that the gateway's key didn't seal it."""
        if f"{kind}:{name}" in self._reported or len(self._reported) >= _MOST:
            return
        self._reported.add(f"{kind}:{name}")
        _unauthenticated.inc(kind=kind)
        logs.event(
            _log,
            logging.ERROR,
            "a record in redis that the gateway's key didn't seal counts for nothing",
            kind=kind,
        )


def _merged(stored: Health, results: Sequence[Result], uses: Mapping[str, Use], now: float) -> Health:
    for result in results:
        stored = with_result(stored, result)
    return with_uses(stored, uses, now)


def _limited(health: Health) -> bool:
    """Whether its provider tells limits, so that there is something to share."""
    return health.limits.requests is not None or health.limits.tokens is not None
