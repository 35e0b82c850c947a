"""What `tenant-semantic-cache` does in its phases: the core's decisions joined with Redis and the models.

PDK calls in access: consumer, body, headers, then either the answer (4 in all) or the verdict and the reply's
headers (5 in all).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.admit import NotStored, admit, is_stream
from tenantgate.cache.core.fitness import Unfit, unfit
from tenantgate.cache.core.judge import NEAR, choose
from tenantgate.cache.core.partition import Keys, Partition, entry_name, partition_of, parts_of
from tenantgate.cache.core.pending import Doubt, Pending, PendingMisses
from tenantgate.cache.core.plan import Bypass, CacheControl, Status, may_serve
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.cache.core.replay import hit_headers, replay, status_headers
from tenantgate.cache.core.wording import read as read_wording
from tenantgate.cache.models import CacheModels, Models
from tenantgate.cache.redis_store import HeldBackError, RedisCache, RefusedError, UnavailableError
from tenantgate.cache.sweeping import Sweeper
from tenantgate.llm import chat
from tenantgate.llm.chat import ChatRequest, Refusal
from tenantgate.models.language import Languages
from tenantgate.store.redis_nodes import connect
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tenantgate.cache.config import CacheConfig
    from tenantgate.cache.core.bound import Plan
    from tenantgate.cache.core.ports import Embedder, PairVerifier
    from tenantgate.cache.learning import Learning
    from tenantgate.cache.redis_store import Found
    from tenantgate.kong import Host
    from tenantgate.store.config import RedisConfig
    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["MODELS", "PLUGIN", "SemanticCache"]

PLUGIN: Final = "tenant-semantic-cache"
_SHORTER: Final = 0.6  # of a question's length: what is shorter hardly asks the same in other words
GUARD: Final = "tenant-guardrails"
REPLY_GUARD: Final = "tenant-response-guardrails"
FINISH_REASON: Final = "tenantgate_finish_reason"
STREAM_END: Final = "tenantgate_stream_end"
"""What the rendered Lua (`tenantgate.config.scripts`) notes of a stream in ``kong.ctx.shared``."""

MODELS: Final = Models()

_log: Final = logging.getLogger("tenantgate.cache")

_WRITE_TIMEOUT_MS: Final = 500  # nobody waits for the log phase
_SEALERS: Final = 1024
_UUID: Final = 12  # bytes of randomness in an identifier or token

_requests: Final = metrics.counter(
    "tenantgate_cache_requests_total",
    "Requests by what the cache did (hit, miss, bypass, refresh) and how or why.",
    ("status", "detail"),
)
_by_tenant: Final = metrics.counter(
    "tenantgate_cache_tenant_requests_total", "Requests by tenant and by what the cache did.",
    ("tenant", "status"),
)  # fmt: skip
_stores: Final = metrics.counter(
    "tenantgate_cache_stores_total", "Answers by whether they were stored.", ("outcome",)
)
_seconds: Final = metrics.histogram("tenantgate_cache_stage_seconds", "Time by part of a lookup.", ("stage",))
_damaged: Final = metrics.counter(
    "tenantgate_cache_damaged_total", "Entries that could not be opened, and were dropped."
)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One request on its way through the levels; `damaged` collects entries that could not be opened."""

    request: ChatRequest
    control: CacheControl
    partition: Partition
    keys: Keys
    name: str
    sealer: TenantSealer
    damaged: list[str]


@dataclass(frozen=True, slots=True)
class _Hit:
    name: str
    entry: entries.Entry
    level: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class _Best:
    """The neighbour with the highest score that the verifier gave, served or not."""

    name: str
    score: float


class SemanticCache:
    """The cache of one configuration; what is costly is shared by all of a process."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._store, self._sweeper = _shared_store(config.redis)
        self._pending = _PENDING
        self._threshold: tuple[CacheModels, float | None] | None = None
        self._learning: tuple[CacheModels, Learning] | None = None

    def access(self, host: Host) -> None:
        """Answer from the cache, or leave what is needed to store the provider's answer."""
        request, tenant = host.chat_request(), host.tenant()
        if isinstance(request, Refusal):
            host.refuse_unread(request, strict=self._config.strict_requests)
            return self._bypass(host, Bypass.NOT_CHAT, tenant)
        if tenant is None:
            return self._bypass(host, Bypass.NO_TENANT, tenant)
        if request.body.get("n") not in (None, 1):
            return self._bypass(host, Bypass.SEVERAL_CHOICES, tenant)
        control = CacheControl.parse(host.headers().all("cache-control"))
        if control.no_store:
            return self._bypass(host, Bypass.NO_STORE, tenant)
        lookup = self._lookup(host, tenant, request, control)
        self._sweeper.note(tenant, self._config.sweep_interval)
        try:
            hit, unwanted, similar = self._found(lookup)
        except UnavailableError as error:
            return self._failed(host, lookup, error)
        if hit is not None and GUARD in self._config.guards and not _let_pass(host):
            return self._bypass(host, Bypass.GUARD, tenant)
        doubt = self._doubt(lookup, similar)
        if hit is not None and doubt is None:
            self._answer(host, lookup, hit)
        if control.only_if_cached:
            self._only_if_cached(host, tenant)
        return self._miss(host, lookup, similar, doubt, refresh=unwanted or control.no_cache)

    def log(self, host: Host) -> None:
        """Store the provider's answer to a miss."""
        verdict = host.verdict(PLUGIN)
        token = verdict.get("token") if verdict else None
        pending = self._pending.take(token) if isinstance(token, str) else None
        if pending is None:
            return
        if REPLY_GUARD in self._config.guards and _changed(host):
            _stores.inc(outcome="guard")
            return
        record = host.record()
        # Where ai-proxy's response_streaming is `always`, the client need not have asked for it.
        stream = pending.stream or is_stream(record)
        reason = _stream_reason(host) if stream else None
        calls = self._config.store_tool_calls
        reply = admit(record, stream=stream, stream_reason=reason, tool_calls=calls)
        try:
            for name in pending.damaged:
                self._store.forget(pending.keys, name)
            outcome = reply.value if isinstance(reply, NotStored) else self._keep(pending, reply)
            self._learn(pending, None if isinstance(reply, NotStored) else reply)
        except UnavailableError:
            outcome = "redis_failed"
        _stores.inc(outcome=outcome)

    # -- access -------------------------------------------------------------------------------------------

    def _lookup(self, host: Host, tenant: TenantId, request: ChatRequest, control: CacheControl) -> _Lookup:
        config = self._config
        sealer = _sealer(config.encryption_key, tenant)
        partition = partition_of(
            tenant, self._namespace(host), request, sealer,
            ignore_system_prompts=config.ignore_system_prompts,
            headers={name: host.headers().all(name) for name in config.upstream_headers},
            apart=parts_of(config.partition_by, request, host.headers().all),
        )  # fmt: skip
        return _Lookup(request, control, partition, Keys(tenant), entry_name(partition, sealer), sealer, [])

    def _namespace(self, host: Host) -> str:
        if self._config.namespace:
            return "name:" + self._config.namespace
        if route := host.config_keys.get("route_id"):
            return "route:" + route
        # Attached to a service or to all: one more call, or two routes' answers would mix.
        route = host.call("router.get_route")
        return "route:" + str(route.get("id") if isinstance(route, dict) else "")

    def _found(self, lookup: _Lookup) -> tuple[_Hit | None, bool, _Similar]:
        """A hit, whether there is an exact one that the client doesn't want, and what the similar level knows.

        What this process has stored or served is asked for alone: that needs no model. Of what it doesn't know there is
        hardly ever an exact entry, so that is asked for together with the neighbours, which saves a trip.
        """
        looks = self._config.exact_caching and not lookup.control.no_cache
        # While a breaker holds requests back nothing need be embedded to learn that.
        alone = looks and (lookup.name in _KNOWN or self._store.open)
        text = None if alone else self._text(lookup)
        if isinstance(text, _Text) and looks:
            return self._together(lookup, text)
        hit, unwanted = self._exact(lookup) if looks else (None, False)
        if hit is not None:
            return hit, False, _Similar()
        similar = self._similar(lookup, text or self._text(lookup))
        return similar.hit, unwanted, similar

    def _together(self, lookup: _Lookup, text: _Text) -> tuple[_Hit | None, bool, _Similar]:
        try:
            found = self._near(lookup, text, own=lookup.keys.entry(lookup.name))
        except RefusedError:  # for the vectors' sake or the entry's
            hit, unwanted = self._exact(lookup)
            return hit, unwanted, _Similar()
        if found.entry is None:
            similar = self._chosen(lookup, text, found)
            return similar.hit, False, similar
        hit, unwanted = self._own(lookup, found.entry)
        if hit is not None:
            return hit, False, _Similar()
        similar = self._similar(lookup, text)
        return similar.hit, unwanted, similar

    def _exact(self, lookup: _Lookup) -> tuple[_Hit | None, bool]:
        """The entry of the very same request, and whether there is one that the client doesn't want."""
        with _Stage("exact"):
            sealed = self._store.get(lookup.keys.entry(lookup.name))
        if sealed is None:
            _KNOWN.discard(lookup.name)
            return None, False
        return self._own(lookup, sealed)

    def _own(self, lookup: _Lookup, sealed: bytes) -> tuple[_Hit | None, bool]:
        entry = self._open(lookup, lookup.name, sealed)
        if entry is None:
            return None, False
        _KNOWN.add(lookup.name)
        if not _wanted(entry, lookup.control):
            return None, True
        return _Hit(lookup.name, entry, "exact"), False

    def _text(self, lookup: _Lookup) -> _Text | _Similar:
        """What neighbours are looked for with, or where nothing is to be looked for what is known without."""
        question = lookup.request.question
        if self._config.max_wrong_rate <= 0 or not self._store.has_vectors:
            return _Similar()
        models = self._models()
        embedder = self._embedder(models)
        if embedder is None:
            return _Similar()
        reason = _unfit(question, embedder, models)
        if reason is not None or question is None:
            return _Similar(reason=reason)
        vectors = lookup.keys.vectors(lookup.partition, embedder.fingerprint)
        if models is None:
            return _Similar(vectors)
        learning = self._learns(models)
        threshold = self._score_needed(models) if learning is None else None
        if learning is None and threshold is None:
            return _Similar()
        if lookup.control.no_cache:
            return _Similar(vectors)  # the vector can be made after the client has its answer
        vector, states = _read_text(embedder, lookup.sealer, question)
        return _Text(question, vectors, vector, states, models.verifier, threshold, learning)

    def _similar(self, lookup: _Lookup, text: _Text | _Similar) -> _Similar:
        if isinstance(text, _Similar):
            return text
        try:
            found = self._near(lookup, text)
        except RefusedError:
            return _Similar()  # counted and logged where it happened; the exact level may still work
        return self._chosen(lookup, text, found)

    def _near(self, lookup: _Lookup, text: _Text, *, own: str | None = None) -> Found:
        state = None if text.learning is None else text.learning.state(lookup.keys)
        with _Stage("similar"):
            return self._store.similar(
                lookup.keys, text.vectors, text.vector, self._config.candidates,
                own=own, state=state, least=NEAR,
                meanwhile=partial(read_wording, text.question),  # remembered, and asked for next
            )  # fmt: skip

    def _chosen(self, lookup: _Lookup, text: _Text, found: Found) -> _Similar:
        known = {} if text.states is None else {text.question: text.states}
        names: dict[str, str] = {}
        verifier = _Timed(text.verifier, known)
        plan = None if text.learning is None else text.learning.plan(lookup.keys, lookup.sealer, found.plan)
        needed = plan.threshold if plan is not None else text.threshold
        if needed is None:
            return _Similar(text.vectors, text.vector, text.states)
        hit = choose(text.question, self._read(lookup, found, known, names), verifier, needed)
        scored = [(names[stored], score) for stored, score in verifier.scores if stored in names]
        best = (
            scored[-1] if hit is not None and scored else max(scored, key=lambda pair: pair[1], default=None)
        )
        return _Similar(
            text.vectors, text.vector, text.states, hit,
            plan, None if best is None else _Best(*best), text.learning,
        )  # fmt: skip

    def _read(
        self, lookup: _Lookup, found: Found, known: dict[str, bytes], names: dict[str, str]
    ) -> Iterator[tuple[float, str, _Hit]]:
        """The neighbours that can be opened and that the client would take, one at a time.

        Adds to `known` their states, and to `names` the entries' by their questions.
        """
        for neighbour in found.neighbours:
            entry = self._open(lookup, neighbour.name, neighbour.value)
            if entry is not None and entry.question is not None and _wanted(entry, lookup.control):
                if entry.states is not None:
                    known[entry.question] = entry.states
                names[entry.question] = neighbour.name
                hit = _Hit(neighbour.name, entry, "similar", neighbour.similarity)
                yield neighbour.similarity, entry.question, hit

    def _doubt(self, lookup: _Lookup, similar: _Similar) -> Doubt | None:
        """What the provider's answer is to be compared with; where the request is a hit, that it is probed."""
        learning, plan, best = similar.learning, similar.plan, similar.best
        if learning is None or plan is None:
            return None
        served = similar.hit is not None
        doubt = None
        if best is not None and not lookup.control.only_if_cached:
            doubt = learning.doubt(plan, best.name, best.score, served=served)
        learning.saw(lookup.keys, None if best is None else best.score, hit=served and doubt is None)
        return doubt

    def _models(self) -> CacheModels | None:
        return MODELS.get(self._config.embedder, self._config.verifier)

    def _embedder(self, models: CacheModels | None) -> Embedder | None:
        if models is not None:
            return models.embedder
        return MODELS.embedder_meanwhile(self._config.embedder, self._config.verifier)

    def _learns(self, models: CacheModels) -> Learning | None:
        """What keeps the bound on each tenant's own traffic, unless nothing is to be compared."""
        if self._config.probe_rate <= 0:
            return None
        if self._learning is None or self._learning[0] is not models:
            from tenantgate.cache.learning import Learning  # noqa: PLC0415 - NumPy, as for `_sealer`

            config = self._config
            if not models.calibration.domains and self._score_needed(models) is None:
                return None  # the operator's own table says that no score will do
            made = Learning(self._store, models, config.max_wrong_rate, config.probe_rate)
            self._learning = models, made
        return self._learning[1]

    def _score_needed(self, models: CacheModels) -> float | None:
        """The verifier's score that keeps the operator's bound, or None, which is logged, if none does."""
        if self._threshold is None or self._threshold[0] is not models:
            bound = self._config.max_wrong_rate
            self._threshold = (models, models.calibration.threshold_for(bound))
            if self._threshold[1] is None:
                _warn_unreachable(bound)
        return self._threshold[1]

    def _open(self, lookup: _Lookup, name: str, sealed: bytes) -> entries.Entry | None:
        plain = lookup.sealer.open(sealed, key=lookup.keys.entry(name).encode())
        entry = None if plain is None else entries.decode(plain)
        if entry is None:
            _damaged.inc()
            lookup.damaged.append(name)
        return entry

    def _answer(self, host: Host, lookup: _Lookup, hit: _Hit) -> NoReturn:
        now = time.time()
        body, kind = replay(hit.entry, lookup.request, now, identifier="chatcmpl-" + secrets.token_hex(_UUID))
        headers = {"Content-Type": kind, **hit_headers(hit.name, hit.entry, now, similarity=hit.similarity)}
        _count(Status.HIT, hit.level, lookup.keys.tenant)
        host.answer(200, body, headers)

    def _only_if_cached(self, host: Host, tenant: TenantId) -> NoReturn:
        # RFC 9111, section 5.2.1.7
        body = chat.error_body(
            "The cache holds no answer, and the request asked for no other.",
            kind="invalid_request_error", code="only_if_cached",
        )  # fmt: skip
        _count(Status.MISS, "only_if_cached", tenant)
        host.answer(504, body, {"Content-Type": chat.JSON_TYPE, **status_headers(Status.MISS)})

    def _miss(
        self, host: Host, lookup: _Lookup, similar: _Similar, doubt: Doubt | None, *, refresh: bool
    ) -> None:
        status = Status.REFRESH if refresh else Status.MISS
        token = secrets.token_hex(_UUID)
        pending = Pending(
            keys=lookup.keys,
            name=lookup.name,
            # Only who compares needs it: what is too long for that would only make the entry large.
            question=lookup.request.question if similar.vectors else None,
            stream=lookup.request.stream,
            vectors=similar.vectors,
            vector=similar.vector,
            states=similar.states,
            damaged=tuple(lookup.damaged),
            doubt=doubt,
        )
        self._pending.put(token, pending, time.monotonic())
        probe = doubt is not None and doubt.probe
        _count(status, "probe" if probe else similar.reason or "", lookup.keys.tenant)
        host.put_verdict(PLUGIN, {"status": status.lower(), "token": token})
        host.set_headers(status_headers(status, lookup.name))

    def _failed(self, host: Host, lookup: _Lookup, error: UnavailableError) -> None:
        if lookup.control.only_if_cached:
            self._only_if_cached(host, lookup.keys.tenant)
        if self._config.on_error == "reject":
            raise error
        if isinstance(error, RefusedError):
            reason = Bypass.REFUSED
        else:
            reason = Bypass.BREAKER if isinstance(error, HeldBackError) else Bypass.REDIS
        self._bypass(host, reason, lookup.keys.tenant)

    def _bypass(self, host: Host, reason: Bypass, tenant: TenantId | None) -> None:
        _count(Status.BYPASS, reason.value, tenant)
        host.set_headers(status_headers(Status.BYPASS))

    # -- log ----------------------------------------------------------------------------------------------

    def _learn(self, pending: Pending, reply: chat.ChatReply | None) -> None:
        models = self._models()
        learning = None if models is None or pending.vectors is None else self._learns(models)
        if learning is not None:
            sealer = _sealer(self._config.encryption_key, pending.keys.tenant)
            learning.log(pending.keys, sealer, pending.doubt, reply)

    def _keep(self, pending: Pending, reply: chat.ChatReply) -> str:
        """Store the reply; gives the outcome for the metrics."""
        config = self._config
        entry = entries.Entry(pending.question, reply, time.time(), config.cache_ttl)
        # The operator's limit is for the answer and its prompt; states are ours, and bounded by the prompt's tokens.
        if len(entries.encode(entry)) > config.max_entry_bytes:
            return NotStored.TOO_LARGE.value
        sealer = _sealer(config.encryption_key, pending.keys.tenant)
        vector, states = pending.vector, pending.states
        if pending.vectors and vector is None and pending.question:
            embedder = self._embedder(self._models())
            if embedder is not None:
                vector, states = _read_text(embedder, sealer, pending.question)
        plain = entries.encode(replace(entry, states=states))
        value = sealer.seal(plain, key=pending.keys.entry(pending.name).encode())
        with _Stage("store"):
            stored = self._store.store(
                pending.keys, pending.name, value,
                ttl_s=config.cache_ttl, max_entries=config.max_entries,
                max_bytes=config.max_megabytes << 20,
                vector=(pending.vectors, vector) if pending.vectors and vector else None,
            )  # fmt: skip
        if not stored:
            return NotStored.TOO_LARGE.value
        _KNOWN.add(pending.name)
        return "stored"


@dataclass(frozen=True, slots=True)
class _Text:
    """A question as the similar level compares it."""

    question: str
    vectors: str
    vector: bytes
    states: bytes | None
    verifier: PairVerifier
    threshold: float | None
    learning: Learning | None


@dataclass(frozen=True, slots=True)
class _Similar:
    """What the similar level found, and what it takes to store this request there; all None without it."""

    vectors: str | None = None
    vector: bytes | None = None
    states: bytes | None = None
    hit: _Hit | None = None
    plan: Plan | None = None
    best: _Best | None = None
    learning: Learning | None = None
    reason: Unfit | None = None
    """Why the question may be found by the exact level only."""


class _Known:
    """Names of the entries that this process has stored or met last; thread-safe.

    It may be wrong either way: that costs time, and no hit.
    """

    def __init__(self, most: int) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        with self._lock:
            self._names[name] = None
            self._names.move_to_end(name)
            if len(self._names) > self._most:
                self._names.popitem(last=False)

    def discard(self, name: str) -> None:
        with self._lock:
            self._names.pop(name, None)


class _Stage:
    """Measures one part of a lookup."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_exc: object) -> None:
        _seconds.observe(time.perf_counter() - self._start, stage=self._name)


class _Timed:
    """A verifier that measures itself, is told what one request knows of its texts, and remembers its `scores`."""

    def __init__(self, verifier: PairVerifier, states: Mapping[str, bytes]) -> None:
        self._verifier, self._states = verifier, states
        self.fingerprint = verifier.fingerprint
        self.truncates = verifier.truncates
        self.scores: list[tuple[str, float]] = []

    def score(
        self,
        a: str,
        b: str,
        similarity: float,
        states: Mapping[str, bytes] = NO_STATES,  # noqa: ARG002 - has its own
    ) -> float:
        with _Stage("verification"):
            found = self._verifier.score(a, b, similarity, self._states)
        self.scores.append((b, found))
        return found


def _let_pass(host: Host) -> bool:
    """Whether the guard has let the request pass, and the reply needs nothing put back that was masked."""
    verdict = host.verdict(GUARD)
    return verdict is not None and not verdict.get("recover")


def _changed(host: Host) -> bool:
    """Whether this reply isn't for everybody: masked, with something put back, or let pass by an exemption."""
    verdict = host.verdict(REPLY_GUARD) or {}
    rules = verdict.get("rules")
    exempted = isinstance(rules, dict) and any(
        isinstance(r, dict) and "exempted" in r for r in rules.values()
    )
    return exempted or verdict.get("action") not in (None, "pass", "alert") or bool(verdict.get("recovered"))


def _stream_reason(host: Host) -> str | None:
    """How a stream ended, if the rendered Lua was there to see it."""
    if host.call("ctx.shared.get", STREAM_END) is not True:
        return None
    reason = host.call("ctx.shared.get", FINISH_REASON)
    return reason.decode("ascii", "replace") if isinstance(reason, bytes) else reason


def _wanted(entry: entries.Entry, control: CacheControl) -> bool:
    now = time.time()
    return may_serve(control, age_s=entry.age_s(now), ttl_s=entry.remaining_s(now))


def _unfit(question: str | None, embedder: Embedder, models: CacheModels | None) -> Unfit | None:
    """Why the question isn't to be compared: the models can't read it, or not to its end beside one of its like.

    Then looking for neighbours costs an embedding and can't end in a hit.
    """
    reason = unfit(question, _LANGUAGES)
    if reason is not None or question is None:
        return reason
    if embedder.truncates(question):
        return Unfit.TOO_LONG
    shorter = question[: int(len(question) * _SHORTER)]
    return Unfit.TOO_LONG if models is not None and models.verifier.truncates(question, shorter) else None


def _read_text(embedder: Embedder, sealer: TenantSealer, question: str) -> tuple[bytes, bytes | None]:
    """The question's vector, scrambled, and what else the embedder knows of it."""
    with _Stage("embedding"):
        reading = embedder.read(question)
        return sealer.scramble(reading.vector), reading.states


def _count(status: Status, detail: str, tenant: TenantId | None) -> None:
    name = status.lower()
    _requests.inc(status=name, detail=detail)
    _by_tenant.inc(tenant=tenant.slug if tenant else "", status=name)


_PENDING: Final = PendingMisses()
_LANGUAGES: Final = Languages()
_KNOWN: Final = _Known(20_000)  # 5 MB
_lock: Final = threading.Lock()
_stores_by_redis: Final[dict[RedisConfig, tuple[RedisCache, Sweeper]]] = {}
_sealers: Final[OrderedDict[tuple[str, TenantId], TenantSealer]] = OrderedDict()
_warned: Final[set[float]] = set()


def _shared_store(config: RedisConfig) -> tuple[RedisCache, Sweeper]:
    with _lock:
        if config not in _stores_by_redis:
            writer = connect(config, timeout_ms=max(_WRITE_TIMEOUT_MS, config.timeout_ms))
            store = RedisCache(connect(config), writer)
            _stores_by_redis[config] = store, Sweeper(store)
        return _stores_by_redis[config]


def _sealer(encryption_key: str, tenant: TenantId) -> TenantSealer:
    from tenantgate.store.sealing import TenantSealer  # noqa: PLC0415 - NumPy, which `--dump` needs not

    with _lock:
        found = _sealers.get((encryption_key, tenant))
        if found is not None:
            _sealers.move_to_end((encryption_key, tenant))
            return found
    made = TenantSealer(encryption_key, tenant)
    with _lock:
        _sealers[encryption_key, tenant] = made
        while len(_sealers) > _SEALERS:
            _sealers.popitem(last=False)
    return made


def _warn_unreachable(bound: float) -> None:
    if bound not in _warned:
        _warned.add(bound)
        logs.event(
            _log, logging.ERROR, "no score keeps the bound: the similar level is off", max_wrong_rate=bound
        )
