"""How the bound is kept on a tenant's own traffic: what lookups go by, what the log phase learns.

The state is one small hash in Redis for each tenant, bound and set of models. A lookup gets the plan with its
neighbours, in the trip that it makes anyway; all else is done in the log phase. Plan and evidence begin with a MAC by
the tenant's key, bound to their place: whoever can only write to Redis can't lower a threshold. One that doesn't fit
counts as none, and is reported.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from tenantgate import __version__
from tenantgate.cache.core import answers
from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.bound import Bound
from tenantgate.cache.core.evidence import Comparison, Evidence, Plan, Seen, bin_of
from tenantgate.cache.core.pending import Doubt
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.cache.core.bound import Belief
    from tenantgate.cache.core.partition import Keys
    from tenantgate.cache.core.ports import Embedder, Sealer
    from tenantgate.cache.models import CacheModels
    from tenantgate.cache.redis_store import RedisCache
    from tenantgate.llm.chat import ChatReply

_K = TypeVar("_K")
_V = TypeVar("_V")

__all__ = ["MAC_DIGITS", "Learning", "fingerprint"]

MAC_DIGITS: Final = 32
"""Characters of the MAC that a stored plan or evidence begins with."""
_log: Final = logging.getLogger("tenantgate.cache")
_TTL_S: Final = 30 * 86_400  # after which a tenant without traffic is unknown again
_ATTEMPTS: Final = 3  # at writing, where other processes learn at the same moment
_STATES: Final = 10_000
_TOLD: Final = 64  # lookups after which they are told even if nothing was compared

_compared: Final = metrics.counter(
    "tenantgate_cache_comparisons_total",
    "Fresh answers compared with the stored one: of a hit by similarity that was probed, of a miss whose neighbour had "
    "too low a score, or of a repeated question; by whether they were the same, alike or other.",
    ("kind", "outcome"),
)
_threshold: Final = metrics.gauge(
    "tenantgate_cache_threshold", "Score that a neighbour needs; above 1: none is served.", ("tenant",)
)
_unauthenticated: Final = metrics.counter(
    "tenantgate_cache_state_unauthenticated_total",
    "Plans and evidence in Redis that the tenant's key didn't sign; they count as none.",
    ("tenant",),
)
_wrong: Final = metrics.gauge(
    "tenantgate_cache_wrong_share",
    "Estimated share of the answers served by similarity that are wrong, and the ends of its interval of 90 %.",
    ("tenant", "end"),
)


def fingerprint(models: CacheModels, max_wrong_rate: float) -> str:
    """Names what the evidence holds for: models, this version's rules, and the bound."""
    parts = models.embedder.fingerprint, models.verifier.fingerprint, __version__, f"{max_wrong_rate:g}"
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Learning:
    """One configuration's way to keep its bound, for one set of models; thread-safe."""

    def __init__(
        self, store: RedisCache, models: CacheModels, max_wrong_rate: float, probe_rate: float
    ) -> None:
        self._store, self._models = store, models
        self._bound: Bound = models.calibration.bound(max_wrong_rate, probe_rate)
        self._max_wrong_rate = max_wrong_rate
        self._name = fingerprint(models, max_wrong_rate)
        self._first = Plan(self._bound.start)
        self._plans: OrderedDict[tuple[str, bytes], Plan] = OrderedDict()
        self._repeats: OrderedDict[str, float] = OrderedDict()

    def state(self, keys: Keys) -> str:
        """The Redis key of a tenant's state."""
        return keys.bound(self._name)

    def plan(self, keys: Keys, sealer: Sealer, stored: bytes | None) -> Plan:
        """What a lookup goes by, from what it found in Redis."""
        if stored is None:
            return self._first
        state = self.state(keys)
        found = self._plans.get((state, stored))
        if found is None:
            found = Plan.from_json(_authentic(keys, sealer, state, "plan", stored) or b"") or self._first
            _remember(self._plans, (state, stored), found)
            _remember(self._repeats, state, found.repeat)
        return found

    def saw(self, keys: Keys, score: float | None, *, hit: bool) -> None:
        """Note a lookup: the score of its best neighbour, and whether that was served."""
        number = None if score is None else bin_of(score)
        _SEEN.add(self.state(keys), number, hit=hit)

    def repeat(self, keys: Keys, name: str) -> Doubt | None:
        """An exact hit that is probed, to learn how this provider repeats itself; by the plan that was seen last."""
        if random.random() >= self._repeats.get(self.state(keys), 0.0):
            return None
        return Doubt(name, None, probe=True)

    def doubt(self, plan: Plan, name: str, score: float, *, served: bool) -> Doubt | None:
        """A neighbour that the provider's answer is to be compared with: a hit that is probed, or what a miss had."""
        number = bin_of(score)
        share = 0.0 if number is None else plan.probe[number] if served else plan.compare
        if number is None or random.random() >= share:
            return None
        return Doubt(name, number, probe=served)

    def log(self, keys: Keys, sealer: Sealer, doubt: Doubt | None, reply: ChatReply | None) -> None:
        """Learn from a reply of the provider's, if there is something to compare it with.

        Raises:
            UnavailableError: Redis failed; nothing was learnt.
        """
        state = self.state(keys)
        comparable = doubt is not None and reply is not None and bool(reply.text) and not reply.tool_calls
        if not comparable and _SEEN.count(state) < _TOLD:
            return
        seen = _SEEN.take(state)
        found: Comparison | None = None
        for attempt in range(_ATTEMPTS):
            name = doubt.name if doubt is not None and comparable and attempt == 0 else None
            known = self._store.evidence(keys, state, name)
            if doubt is not None and reply is not None and name is not None and known.entry is not None:
                found = self._compare(doubt, reply, sealer.open(known.entry, key=keys.entry(name).encode()))
            if found is None and not seen.lookups:
                return
            before = Evidence.from_json(_authentic(keys, sealer, state, "evidence", known.evidence))
            after, belief = self._bound.updated(before, seen, found, time.time())
            summary = json.dumps([self._max_wrong_rate, belief.wrong, belief.low, belief.high])
            evidence = _signed(sealer, state, "evidence", after.to_json())
            plan = _signed(sealer, state, "plan", belief.plan.to_json())
            if self._store.learn(state, known.version, evidence, plan, summary, ttl_s=_TTL_S):
                _remember(self._repeats, state, belief.plan.repeat)
                self._show(keys, before, after, belief)
                return

    def _compare(self, doubt: Doubt, reply: ChatReply, plain: bytes | None) -> Comparison | None:
        entry = None if plain is None else entries.decode(plain)
        if entry is None or entry.reply.tool_calls or not entry.reply.text:
            return None
        embedder = self._models.embedder
        verdict = answers.likeness(reply.text, entry.reply.text, lambda a, b: _cosine(embedder, a, b))
        kind = "repeat" if doubt.bin is None else "probe" if doubt.probe else "miss"
        _compared.inc(kind=kind, outcome=verdict.value)
        return Comparison(doubt.bin, verdict, doubt.probe)

    def _show(self, keys: Keys, before: Evidence, after: Evidence, belief: Belief) -> None:
        tenant = keys.tenant.slug
        _threshold.set(min(2.0, belief.plan.threshold), tenant=tenant)
        for end, value in (("estimate", belief.wrong), ("low", belief.low), ("high", belief.high)):
            if value is not None:
                _wrong.set(value, tenant=tenant, end=end)
        if after.history != before.history:
            last = after.history[-1]
            logs.event(
                _log,
                logging.INFO,
                "the similar level's threshold moved",
                tenant=tenant,
                threshold=round(last.threshold, 4),
                why=last.why,
            )


def _remember(held: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    """Keep the value, and of others the latest `_STATES`."""
    held[key] = value
    while len(held) > _STATES:
        held.popitem(last=False)


def _signed(sealer: Sealer, state: str, field: str, text: str) -> str:
    return sealer.name(f"bound\0{state}\0{field}\0{text}".encode()) + text


def _authentic(keys: Keys, sealer: Sealer, state: str, field: str, stored: bytes | None) -> bytes | None:
    """What was signed; None for nothing, and for what the tenant's key didn't sign for this place."""
    if stored is None:
        return None
    text = stored[MAC_DIGITS:]
    expected = sealer.name(f"bound\0{state}\0{field}\0".encode() + text)
    if hmac.compare_digest(expected.encode(), stored[:MAC_DIGITS]):
        return text
    _unauthenticated.inc(tenant=keys.tenant.slug)
    return None


def _cosine(embedder: Embedder, a: str, b: str) -> float:
    return float(embedder.embed(a) @ embedder.embed(b))


class _Seen:
    """Lookups that no log phase has told yet, by state; thread-safe. Lost if the process ends."""

    def __init__(self, most: int) -> None:
        self._held: OrderedDict[str, Seen] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def add(self, state: str, number: int | None, *, hit: bool) -> None:
        with self._lock:
            self._held[state] = self._held.get(state, Seen()).with_lookup(number, hit=hit)
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def count(self, state: str) -> int:
        held = self._held.get(state)
        return 0 if held is None else held.lookups

    def take(self, state: str) -> Seen:
        with self._lock:
            return self._held.pop(state, Seen())


_SEEN: Final = _Seen(_STATES)
