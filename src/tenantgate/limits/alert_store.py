"""What alerts keep in Redis.

All of a tenant's is under its hash tag: for each budget's counter the state of what was told (a hash, until a day after
its window), and the outbox of events that aren't in the audit log yet (a hash). One key belongs to the gateway: which
counters have to be looked at, and when (a sorted set). It is only a reminder: what is told the states decide.

Methods raise redis.RedisError and OSError, as the client does.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import redis

from tenantgate.errors import ConfigError
from tenantgate.limits.core.alerting import About, Plan, Standing, State, read_about, read_state
from tenantgate.limits.core.keys import counter_name, raises_key, window_key
from tenantgate.limits.core.raises import Raise, raised, read_raise
from tenantgate.limits.core.windows import window_at
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.limits.core.rules import Rule
    from tenantgate.store.redis_nodes import Nodes

__all__ = ["MINE_MS", "OUTBOX", "AlertStore", "Event", "Seen", "new_event"]

_BASE: Final = "tg:alerts:1"
_INDEX: Final = f"{_BASE}:{{gateway}}:looks"
_KEPT_MS: Final = 86_400_000  # of a state after its window: recovery is told by who looks within it
_OUTBOX_MS: Final = 7 * _KEPT_MS
MINE_MS: Final = 30_000
"""How long what one has taken on is nobody else's."""
OUTBOX: Final = ""
"""In the place of a counter: the tenant's outbox."""
_AT_ONCE: Final = 100
_AGAIN: Final = 3  # readings until the window fits Redis' clock


class Event(NamedTuple):
    """An event that waits for the audit log."""

    id: str
    time_ms: int
    values: Mapping[str, str]


class Seen(NamedTuple):
    """A counter as it was read.

    Attributes:
        held: by requests in flight.
        raise_: in force or not; None where there is none.
        uncertain: what of the used may not have been spent, and was charged all the same.
    """

    state: State
    standing: Standing
    held: int
    raise_: Raise | None
    uncertain: int = 0


class AlertStore:
    """The alerts of one Redis or one cluster; thread-safe."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._write, self._claim = _script("alert_write"), _script("alert_claim")
        self._look = _script("alert_look")
        self._offset_ms = 0  # Redis' clock by ours

    # -- counters ------------------------------------------------------------------------------------------

    def read(self, tenant: TenantId, about: About) -> Seen:
        """A budget's counter in its window of now, and what was told of it."""
        key, window = _state_key(tenant, about.counter), about.rule.window
        start_ms, end_ms = window_at(window, self.now_ms())
        for _ in range(_AGAIN):
            counter = window_key(tenant, about.counter, window, start_ms)
            fields, counted, found, clock = self._read(key, counter, tenant, about.counter)
            now_ms = clock[0] * 1000 + clock[1] // 1000
            self._offset_ms = now_ms - _local_ms()
            start_ms, end_ms = window_at(window, now_ms)
            if counter == window_key(tenant, about.counter, window, start_ms):
                break
        total, held, *uncertain = (_whole(value) for value in counted)
        extra = read_raise(found)
        most = raised(about.rule.most, extra, now_ms)
        return Seen(
            read_state(fields),
            Standing(max(0, total - held), most, start_ms, end_ms, now_ms),
            held,
            extra,
            sum(uncertain),
        )

    def _read(self, key: str, counter: str, tenant: TenantId, name: str) -> Sequence[Any]:
        def call(client: Any) -> Sequence[Any]:
            with client.pipeline(transaction=False) as pipe:
                pipe.hgetall(key)
                pipe.hmget(counter, "u", "h", "xe", "xl", "xc", "xu")
                pipe.hget(raises_key(tenant), name)
                pipe.time()
                answer: Sequence[Any] = pipe.execute()
            return answer

        return self._nodes.ask(key, call)

    def about(self, tenant: TenantId, counter: str) -> About | None:
        """The budget of a counter of which something is kept."""
        key = _state_key(tenant, counter)
        return read_about(self._nodes.ask(key, lambda client: client.hget(key, "about")))

    def write(self, tenant: TenantId, about: About, seen: Seen, plan: Plan) -> list[Event] | None:
        """Write a plan, and put its events into the outbox, where they are the caller's for half a minute.

        None where somebody else has written meanwhile; then nothing is done.
        """
        now_ms = plan.standing.now_ms
        together = _identifier()[:-2]
        events = [Event(f"{together}{n:02x}", now_ms, values) for n, values in enumerate(plan.events)]
        put = [part for pair in plan.put.items() for part in pair]
        waiting = [part for e in events for part in (e.id, _entry(e, now_ms + MINE_MS))]
        keys = [_state_key(tenant, about.counter), _outbox_key(tenant)]
        arguments = [
            seen.state.version,
            plan.standing.end_ms + _KEPT_MS,
            _OUTBOX_MS,
            len(plan.put),
            *put,
            len(plan.gone),
            *plan.gone,
            *waiting,
        ]
        done = self._nodes.ask(keys[0], lambda client: self._write(keys, arguments, client=client))
        return events if done == 1 else None

    def subjects(self, tenant: TenantId, rule: Rule) -> Iterator[tuple[str, str]]:
        """Counters of a rule for each of its subjects in the window of now: name, and the subject as keys have it.

        Goes through all keys of the node, so it is for commands only.
        """
        start_ms, _ = window_at(rule.window, self.learn_time(tenant))
        prefix = counter_name(rule, "\0").rpartition(":")[0]
        before, _, after = window_key(tenant, f"{prefix}:*", rule.window, start_ms).partition("*")
        match = f"{before}*{after}"
        keys: list[bytes] = self._nodes.ask(
            before, lambda client: list(client.scan_iter(match=match, count=1000))
        )
        for key in keys:
            subject = key.decode("utf-8", "replace").removeprefix(before).removesuffix(after)
            yield f"{prefix}:{subject}", subject

    # -- the outbox ----------------------------------------------------------------------------------------

    def waiting(self, tenant: TenantId) -> list[Event]:
        """Events that nobody brings to the audit log, in their order; they are the caller's now."""
        key = _outbox_key(tenant)
        _, *found = self._nodes.ask(
            key, lambda client: self._claim([key], [_AT_ONCE, MINE_MS], client=client)
        )
        events = (_event(name, value) for name, value in zip(found[::2], found[1::2], strict=True))
        # A hash has no order, and what recovers mustn't come behind what is reached again.
        return sorted((e for e in events if e is not None), key=lambda e: (e.time_ms, e.id))

    def done(self, tenant: TenantId, event: Event) -> None:
        """The event is in the audit log."""
        key = _outbox_key(tenant)
        self._nodes.ask(key, lambda client: client.hdel(key, event.id))

    def announce(self, tenant: TenantId, event: Event, pause_ms: int = 0) -> None:
        """Put an event into the outbox, for any node."""
        key = _outbox_key(tenant)
        self._nodes.ask(key, lambda client: client.hset(key, event.id, _entry(event, 0)))
        self.look_at(tenant, OUTBOX, self.now_ms() + pause_ms)

    # -- what has to be looked at --------------------------------------------------------------------------

    def look_at(self, tenant: TenantId, counter: str, at_ms: int) -> None:
        """Have a counter looked at from this Unix time in ms on, if it isn't earlier anyway; `OUTBOX`: the outbox."""
        self._say(tenant, counter, str(at_ms), "")

    def next_look(self, tenant: TenantId, counter: str, at_ms: int | None, *, instead_of_ms: int) -> None:
        """The next look, None for none, in the place of one's own at `instead_of_ms`; somebody else's stays."""
        self._say(tenant, counter, "" if at_ms is None else str(at_ms), str(instead_of_ms))

    def _say(self, tenant: TenantId, counter: str, at: str, known: str) -> None:
        arguments = [_member(tenant, counter), at, known]
        self._nodes.ask(_INDEX, lambda client: self._look([_INDEX], arguments, client=client))

    def due(self) -> list[tuple[TenantId, str, int]]:
        """Counters, and outboxes, that have to be looked at now, each with its time until when nobody else gets it."""
        now, *members = self._nodes.ask(
            _INDEX, lambda client: self._claim([_INDEX], [_AT_ONCE, MINE_MS], client=client)
        )
        found = []
        for member in members:
            try:
                tenant, counter = json.loads(member)
                found.append((TenantId(tenant), str(counter), int(now) + MINE_MS))
            except (ValueError, TypeError, ConfigError):
                self._drop(member)
        return found

    def _drop(self, member: bytes) -> None:
        self._nodes.ask(_INDEX, lambda client: client.zrem(_INDEX, member))

    # -- raises --------------------------------------------------------------------------------------------

    def set_raise(self, tenant: TenantId, counter: str, new: Raise | None) -> Raise | None:
        """Raise a counter's limit, or end its raise (None); the raise before, if there was one."""
        key = raises_key(tenant)

        def call(client: Any) -> bytes | None:
            before: bytes | None = client.hget(key, counter)
            client.hdel(key, counter) if new is None else client.hset(key, counter, str(new))
            return before

        return read_raise(self._nodes.ask(key, call))

    def raises(self, tenant: TenantId) -> dict[str, Raise]:
        """The tenant's raises by counter, also those that have ended."""
        key = raises_key(tenant)
        found: Mapping[bytes, bytes] = self._nodes.ask(key, lambda client: client.hgetall(key))
        read = ((name.decode("utf-8", "replace"), read_raise(value)) for name, value in found.items())
        return {name: raise_ for name, raise_ in read if raise_ is not None}

    def now_ms(self) -> int:
        """Redis' time, as far as it is known."""
        return _local_ms() + self._offset_ms

    def learn_time(self, tenant: TenantId) -> int:
        """Redis' time, asked of it."""
        seconds, micros = self._nodes.ask(raises_key(tenant), lambda client: client.time())
        self._offset_ms = seconds * 1000 + micros // 1000 - _local_ms()
        return self.now_ms()


def new_event(time_ms: int, values: Mapping[str, str]) -> Event:
    """An event with an id of its own."""
    return Event(_identifier(), time_ms, values)


def _script(name: str) -> Any:
    text = resources.files("tenantgate.limits").joinpath("redis_scripts", f"{name}.lua").read_text("utf-8")
    # The client never connects: a script only needs an encoding.
    return redis.Redis().register_script(text)


def _state_key(tenant: TenantId, counter: str) -> str:
    return f"{_BASE}:{{{tenant.slug}}}:state:{counter}"


def _outbox_key(tenant: TenantId) -> str:
    return f"{_BASE}:{{{tenant.slug}}}:events"


def _member(tenant: TenantId, counter: str) -> str:
    return json.dumps([str(tenant), counter], separators=(",", ":"))


def _entry(event: Event, due_ms: int) -> str:
    return f"{due_ms} {event.time_ms} {json.dumps(dict(event.values), separators=(',', ':'))}"


def _event(identifier: bytes, rest: bytes) -> Event | None:
    try:
        time_ms, _, values = rest.partition(b" ")
        read = {str(k): str(v) for k, v in json.loads(values).items()}
        return Event(identifier.decode("ascii"), int(time_ms), read)
    except (ValueError, AttributeError):
        return None


def _identifier() -> str:
    return f"budget-{secrets.token_hex(16)}"


def _whole(value: bytes | None) -> int:
    try:
        return int(float(value or 0))
    except ValueError:
        return 0


def _local_ms() -> int:
    return int(time.time() * 1000)
