"""Routing in the engine's phases: the order of a request's targets in access, what their tries teach in log.

Neither phase asks Redis. In access an order takes some ten microseconds; what it costs is hashing the conversation's
beginning.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tenantgate.llm.chat import ChatRequest
from tenantgate.routing.core.affinity import affinity_key, beginning
from tenantgate.routing.core.balance import LEAST_BUSY, LOWEST_LATENCY, Load, Option, Rotation
from tenantgate.routing.core.circuit import State, back_at, state_of
from tenantgate.routing.core.health import Result, expected_s, host_of, identity
from tenantgate.routing.core.order import Candidate, Order, Why, arranged
from tenantgate.routing.core.provider_limits import left, near, read_limits, retry_after_s
from tenantgate.routing.core.share import Use, over_share
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Deployment, Registry
from tenantgate.routing.stored import sealer
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.policy.core.records import ModelPolicy, Routing, Target
    from tenantgate.store.config import RedisConfig
    from tenantgate.tenant import TenantId

__all__ = ["Attempt", "Choice", "Route", "Router", "router"]

_REPLY_TOKENS: Final = 500  # expected of a reply, where the request doesn't allow fewer
_BYTES_A_TOKEN: Final = 4
_PROBE_S: Final = 30.0  # after which a request that tries a target again keeps it from no other one
_LAST_RESORTS: Final = 4  # requests of a node that may wait at once for a target that is left out
_TIMEOUT_MS: Final = 500  # nobody waits
_ROUTERS: Final = 64  # of a process

_FIRST_BYTE_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_tries: Final = metrics.counter(
    "tenantgate_routing_tries_total",
    "Tries at targets, by outcome: ok, a class of failure, refused (by the egress policy), or http_NNN.",
    ("provider", "model", "outcome"),
)
_failovers: Final = metrics.counter(
    "tenantgate_routing_failovers_total",
    "Tries that were followed by one at another target, by outcome.",
    ("provider", "model", "outcome"),
)
_first_byte: Final = metrics.histogram(
    "tenantgate_routing_first_byte_seconds",
    "Time from a try's begin to the head of a reply that was passed on.",
    ("provider", "model"),
    _FIRST_BYTE_S,
)
_orders: Final = metrics.counter(
    "tenantgate_routing_requests_total",
    "Requests of models with several targets by what they found: healthy, last_resort, all_out, drained, over_share.",
    ("why",),
)
_open: Final = metrics.gauge(
    "tenantgate_routing_circuit_open",
    "1 while requests don't go to a deployment because it failed, .5 while one may try it again.",
    ("provider", "model", "deployment"),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request, as `tenantgate.engine.core.tables.Try` has it.

    Attributes:
        target: its id.
        outcome: as there.
        ms: to the reply's head, or to the failure.
        limits: headers of the reply.
    """

    target: str
    outcome: str
    ms: int
    limits: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request does.

    Attributes:
        targets: in the order in which they are tried; empty where it is refused.
        why: the reason.
        wait_s: for ``Retry-After``: where it is refused, and where its last resort fails.
        state: for the log phase.
    """

    targets: tuple[Target, ...]
    why: Why
    wait_s: float = 0.0
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """A target, and the deployment that it is."""

    target: Target
    deployment: Deployment
    tag: int
    input_cost: float | None
    output_cost: float | None


@dataclass(frozen=True, slots=True)
class _Asking:
    """One request, as the targets are ordered for it; `weight` is of its tenant's share of limits."""

    tenant: TenantId
    weight: int
    load: Load
    streamed: bool
    now: float

    def until(self, routing: Routing) -> float:
        """When it has ended at the latest."""
        most_ms = routing.streaming_total_ms if self.streamed else routing.non_streaming_total_ms
        return self.now + most_ms / 1000


class Route:
    """A model's targets with their deployments."""

    def __init__(self, model: ModelPolicy, routing: Routing, registry: Registry) -> None:
        self.model, self.routing = model, routing
        self.rotation = Rotation()
        self.places = tuple(_place(target, registry) for target in model.targets)
        self.by_id = {place.target.id: place for place in self.places}


class Router:
    """Routing of one gateway; thread-safe.

    Args:
        registry: the health of deployments.
        in_flight: requests by deployment.
        clock: Unix seconds.
    """

    def __init__(
        self, registry: Registry, in_flight: InFlight, clock: Callable[[], float] = time.time
    ) -> None:
        self.registry, self._in_flight, self._clock = registry, in_flight, clock
        self._random = random.SystemRandom()
        self._lock = threading.Lock()

    def route(self, model: ModelPolicy, routing: Routing) -> Route:
        """The route of a model, to be kept as long as its policy."""
        return Route(model, routing, self.registry)

    def drained(self, tenant: TenantId, model: ModelPolicy) -> Choice | None:
        """The refusal of a request for a model with one target, asked directly, which is drained; None: it isn't."""
        self.registry.start()
        if not self.registry.switches:
            return None
        now = self._clock()
        name = model.targets[0].id or model.qualified
        until = self.registry.drained_until(str(tenant), name, now)
        if until is None:
            return None
        found = arranged(
            [Candidate(Option(0, name), drained_until=until)],
            balance="", key=b"", load=Load(), rotation=Rotation(), now=now,
        )  # fmt: skip
        return Choice((), found.why, found.wait_s)

    def choose(
        self,
        route: Route,
        tenant: TenantId,
        request: ChatRequest | None,
        *,
        headers: Mapping[str, Any],
        size: int,
        weight: int = 100,
    ) -> Choice:
        """The order of the targets for one request.

        Args:
            route: of the model.
            tenant: whose request it is.
            request: None for one that can't be read.
            headers: of the request, in lower case.
            size: of the body, in bytes.
            weight: of the tenant's share of a limit.
        """
        streamed = request is not None and request.stream
        asking = _Asking(tenant, weight, _load(request, size), streamed, self._clock())
        self.registry.seen([place.deployment for place in route.places], asking.now)
        key = affinity_key(tenant, route.model.qualified, _prefix(route.routing, request, headers))
        while True:
            order = self._order(route, asking, key)
            if order.probe is None:
                return self._chosen(route, asking, order)
            place = route.places[order.probe]
            # Another thread may have begun to try it meanwhile.
            until = min(asking.until(route.routing), asking.now + _PROBE_S)
            if self.registry.probe(place.deployment, asking.now, until):
                return self._chosen(route, asking, order)

    def _order(self, route: Route, asking: _Asking, key: bytes) -> Order:
        counts = [0] * len(route.places)
        if route.routing.balance == LEAST_BUSY:
            counts = self._in_flight.counts([place.tag for place in route.places], asking.now)
        candidates = [self._candidate(route, i, asking, in_flight=n) for i, n in enumerate(counts)]
        with self._lock:  # of the rotation
            return arranged(
                candidates,
                balance=route.routing.balance,
                key=key,
                load=asking.load,
                rotation=route.rotation,
                now=asking.now,
            )

    def _candidate(self, route: Route, index: int, asking: _Asking, *, in_flight: int) -> Candidate:
        place, routing, now = route.places[index], route.routing, asking.now
        deployment, health = place.deployment, place.deployment.health
        circuit, fail_timeout_s = health.circuit, routing.fail_timeout_ms / 1000
        state = state_of(circuit, max_fails=routing.max_fails, fail_timeout_s=fail_timeout_s, now=now)
        if state is not State.CLOSED or circuit.failures:
            _show(deployment, state)
        latency_s = 0.0
        if routing.balance == LOWEST_LATENCY:
            latency_s = expected_s(health.streamed if asking.streamed else health.whole, now)
        return Candidate(
            Option(
                index,
                place.target.id,
                weight=place.target.weight,
                in_flight=in_flight,
                latency_s=latency_s,
                input_cost=place.input_cost,
                output_cost=place.output_cost,
            ),
            state=state,
            back_at=back_at(circuit, max_fails=routing.max_fails, fail_timeout_s=fail_timeout_s),
            failures=circuit.failures,
            credential_refused=circuit.credential_refused,
            waits=now < circuit.wait_until,
            probe=state is State.HALF_OPEN and self.registry.may_probe(deployment, now),
            near_limit=_near_limit(deployment, asking.load, now),
            over_share=_over_share(deployment, asking),
            drained_until=self.registry.drained_until(str(asking.tenant), place.target.id, now),
        )

    def _chosen(self, route: Route, asking: _Asking, order: Order) -> Choice:
        places = [route.places[index] for index in order.indexes]
        why, load = order.why, asking.load
        if why is Why.LAST_RESORT:
            (waiting,) = self._in_flight.counts([places[0].tag], asking.now)
            if waiting >= _LAST_RESORTS:
                why, places = Why.ALL_OUT, []
        _orders.inc(why=why.value)
        if not places:
            return Choice((), why, order.wait_s)
        first = places[0]
        use = Use(asking.weight, 1, load.prompt_tokens + load.reply_tokens)
        self.registry.use(first.deployment, asking.tenant.slug, use, asking.now)
        slot = self._in_flight.begin(first.tag, asking.until(route.routing), asking.now)
        state: dict[str, Any] = {"slot": slot, "first": first.target.id}
        if asking.streamed:
            state["streamed"] = 1
        wait_s = order.wait_s if why is Why.LAST_RESORT else 0.0
        return Choice(tuple(place.target for place in places), why, wait_s, state)

    def ended(self, route: Route, attempts: Sequence[Attempt], state: Mapping[str, Any]) -> None:
        """Learn from a request's tries, in their order."""
        now = self._clock()
        first = route.by_id.get(_text(state.get("first")))
        if first is not None and isinstance(slot := state.get("slot"), int | float):
            self._in_flight.end(int(slot), first.tag)
        for number, attempt in enumerate(attempts):
            place = route.by_id.get(attempt.target)
            if place is None:
                continue  # the policy has changed since
            about = place.deployment.about
            self.count(about["provider"], about["model"], [attempt])
            if number + 1 < len(attempts):
                _failovers.inc(provider=about["provider"], model=about["model"], outcome=attempt.outcome)
            self._learn(route, place, attempt, streamed=bool(state.get("streamed")), now=now)

    def count(self, provider: str, model: str, attempts: Sequence[Attempt]) -> None:
        """Count tries at a provider's model in the metrics."""
        for attempt in attempts:
            _tries.inc(provider=provider, model=model, outcome=attempt.outcome)
            if attempt.outcome == "ok":
                _first_byte.observe(attempt.ms / 1000, provider=provider, model=model)

    def _learn(self, route: Route, place: _Place, attempt: Attempt, *, streamed: bool, now: float) -> None:
        before = place.deployment.health.circuit.failures
        result = Result(
            attempt.outcome,
            now,
            first_byte_s=attempt.ms / 1000,
            streamed=streamed,
            limits=read_limits(attempt.limits, now),
            wait_s=retry_after_s(attempt.limits, now),
            jitter=self._random.random(),
        )
        self.registry.learn(place.deployment, result)
        circuit = place.deployment.health.circuit
        if before or circuit.failures:
            state = state_of(
                circuit,
                max_fails=route.routing.max_fails,
                fail_timeout_s=route.routing.fail_timeout_ms / 1000,
                now=now,
            )
            _show(place.deployment, state)


_SHOWN: Final = {State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}


def _show(deployment: Deployment, state: State) -> None:
    about = deployment.about
    _open.set(
        _SHOWN[state], provider=about["provider"], model=about["model"], deployment=deployment.digest[:8]
    )


def _place(target: Target, registry: Registry) -> _Place:
    name, _, _ = target.id.partition("#")
    provider, _, model = name.partition("/")
    about = {"provider": provider or target.provider, "model": model or target.name, "host": host_of(target)}
    deployment = registry.deployment(identity(target), about)
    return _Place(
        target,
        deployment,
        int(deployment.digest[:16], 16) or 1,
        _price(target.options.get("input_cost")),
        _price(target.options.get("output_cost")),
    )


def _price(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _load(request: ChatRequest | None, size: int) -> Load:
    most: float = _REPLY_TOKENS
    if request is not None:
        for name in ("max_completion_tokens", "max_tokens"):
            value = request.body.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                most = min(most, float(value))
    return Load(size / _BYTES_A_TOKEN, most)


def _prefix(routing: Routing, request: ChatRequest | None, headers: Mapping[str, Any]) -> bytes:
    if routing.hash_on_header is not None:
        value = headers.get(routing.hash_on_header.lower())
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str | bytes) and value:
            return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return b"" if request is None else beginning(request.messages)


def _near_limit(deployment: Deployment, load: Load, now: float) -> bool:
    limits = deployment.health.limits
    return near(limits.requests, needed=1, taken=deployment.requests_since, now=now) or near(
        limits.tokens, needed=load.prompt_tokens + load.reply_tokens, taken=deployment.tokens_since, now=now
    )


def _over_share(deployment: Deployment, asking: _Asking) -> bool:
    limits, uses = deployment.health.limits, deployment.health.uses
    if (limits.requests is None and limits.tokens is None) or not uses.by_tenant:
        return False
    requests_left, tokens_left = (
        None if told is None else max(0.0, left(told, asking.now) - taken)
        for told, taken in (
            (limits.requests, deployment.requests_since),
            (limits.tokens, deployment.tokens_since),
        )
    )
    return over_share(
        uses, asking.tenant.slug, weight=asking.weight, requests_left=requests_left, tokens_left=tokens_left
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


# -- of the process --------------------------------------------------------------------------------------

_routers: Final[Shared[Router]] = Shared(_ROUTERS)


def router(redis: RedisConfig, encryption_key: str, folder: Path) -> Router:
    """The router of this Redis and key, one for the whole process: another configuration resets nothing.

    `folder`: of the node's policy file; the counts of requests in flight lie there.
    """

    def made() -> Router:
        nodes = connect(redis, timeout_ms=max(_TIMEOUT_MS, redis.timeout_ms))
        registry = Registry(nodes, sealer(encryption_key))
        registry.start()
        return Router(registry, InFlight(folder / "in-flight" if folder.is_dir() else None))

    return _routers.get((redis, encryption_key, folder), made)
