"""`tenant-semantic-cache` in its phases: the lookup and the storing, joined with Kong, Redis and the models.

PDK calls in access: consumer, body, headers, then either the answer (4 in all) or what the log phase needs and the
reply's headers (5 in all). A miss that is coalesced (`tenantgate.cache.core.coalescing`) asks Redis once more.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NoReturn

from tenantgate.cache.config import CACHE_ONLY
from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.admit import STORED, NotStored, admit, admit_vectors, new_entry
from tenantgate.cache.core.cache_control import BypassReason, MissReason, Status
from tenantgate.cache.core.coalescing import Seats, joins, lease_value, wish_of
from tenantgate.cache.core.guard_verdicts import REPLY_GUARD, REQUEST_GUARD, let_pass, made_for_one
from tenantgate.cache.core.lookup import Resources, look_up
from tenantgate.cache.core.outcome import Bypass, Hit, Level, Lookup, Miss
from tenantgate.cache.core.partition import encode, partition_of, parts_of
from tenantgate.cache.core.pending import pending_of, read, written
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.core.question import cacheable, question_of
from tenantgate.cache.core.replay import hit_headers, replay, status_headers
from tenantgate.cache.models import Models
from tenantgate.cache.redis_store import OwnLease, RedisCache
from tenantgate.cache.similar_level import Levels
from tenantgate.cache.sweeping import Sweeper
from tenantgate.llm import chat
from tenantgate.llm.chat import ChatReply, Refusal
from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.operations import Operation
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tenantgate.cache.config import CacheConfig
    from tenantgate.cache.core.entry import Entry
    from tenantgate.cache.core.pending import Pending
    from tenantgate.cache.core.ports import Leased
    from tenantgate.cache.core.question import Cacheable, Question
    from tenantgate.kong import Host
    from tenantgate.store.config import RedisConfig
    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["MODELS", "PLUGIN", "SemanticCache"]

PLUGIN: Final = "tenant-semantic-cache"
FINISH_REASON: Final = "tenantgate_finish_reason"
STREAM_END: Final = "tenantgate_stream_end"
"""What the rendered Lua (`tenantgate.config.scripts`) notes of a stream in ``kong.ctx.shared``."""

MODELS: Final = Models()

_WRITE_TIMEOUT_MS: Final = 500  # nobody waits for the log phase
_SEALERS: Final = 1024
_LEVELS: Final = 1024
_UUID: Final = 12  # bytes of randomness in an identifier
_TOKEN: Final = 16

_RESERVE_MS: Final = 150  # of the request's time, for what comes after a wait
_LINGER_MS: Final = 2000  # longer than anybody waits
_WAIT_TIMEOUT_MS: Final = 2000
_SEATS: Final = Seats(each=8, most=12)
"""Requests of this process that wait. Each has a thread; where the server has few, fewer may (`Host.waiting`)."""
_RETRY_AFTER_S: Final = 30

_requests: Final = metrics.counter(
    "tenantgate_cache_requests_total",
    "Requests by what the cache did (hit, miss, bypass, refresh, coalesced, stale) and how or why.",
    ("status", "detail"),
)
_by_tenant: Final = metrics.counter(
    "tenantgate_cache_tenant_requests_total",
    "Requests by tenant and by what the cache did.",
    ("tenant", "status"),
)
_stores: Final = metrics.counter(
    "tenantgate_cache_stores_total", "Answers by whether they were stored.", ("outcome",)
)
_coalesced: Final = metrics.counter(
    "tenantgate_cache_coalescing_total",
    "Misses that could be coalesced, by part: led, served, in_vain, crowded, apart.",
    ("role",),
)
_damaged: Final = metrics.counter(
    "tenantgate_cache_damaged_total", "Entries that could not be opened, and were dropped."
)
_misplaced: Final = metrics.counter(
    "tenantgate_cache_misplaced_total",
    "Entries met in a bucket that they weren't stored for, and left out: somebody else wrote to Redis.",
)


class SemanticCache:
    """The cache of one configuration; what is costly is shared by all of a process whose settings for it are equal."""

    __slots__ = ("_config", "_levels", "_store", "_sweeper")

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._store, self._sweeper = _shared_store(config.redis)
        self._levels = _shared_levels(config, self._store)

    # -- access -------------------------------------------------------------------------------------------

    def access(self, host: Host) -> None:
        """Answer from the cache, or leave what is needed to store the provider's answer."""
        request, tenant = host.chat_request(), host.tenant()
        if isinstance(request, Refusal):
            host.refuse_unread(request, strict=self._config.strict_requests)
        asked = cacheable(request, tenant, host.headers().all("cache-control"))
        if isinstance(asked, BypassReason):
            self._bypass(host, asked, tenant)
            return
        sealer = _sealer(self._config.encryption_key, asked.tenant)
        question = self._question(host, asked, sealer)
        self._sweeper.note(asked.tenant, self._config.sweep_interval)
        resources = self._resources(host, question, sealer)
        lookup = look_up(question, resources)
        if lookup.damaged:
            _damaged.inc(len(lookup.damaged))
        if lookup.misplaced:
            _misplaced.inc(lookup.misplaced)
        self._go_by(host, question, lookup, resources)

    def _go_by(self, host: Host, question: Question, lookup: Lookup, resources: Resources) -> None:
        tenant = question.keys.tenant
        match lookup.decision:
            case Hit() as hit:
                self._answer(host, question, hit, resources.now)
            case Bypass(failure=UnavailableError() as failure) if self._config.on_error == "reject":
                raise failure
            case Bypass(reason):
                self._bypass(host, reason, tenant)
            case Miss(MissReason.ONLY_IF_CACHED):
                self._only_if_cached(host, tenant)
            case Miss() as miss:
                spare = self._spare(host, question, miss, resources)
                if self._config.mode == CACHE_ONLY:
                    self._cache_only(host, tenant, spare)
                lease = self._coalesce(host, question, miss, lookup.leased, resources)
                if spare is not None:
                    host.stand_in(spare)
                self._miss(host, miss, pending_of(question, miss, lookup.damaged, lease))

    def _question(self, host: Host, asked: Cacheable, sealer: TenantSealer) -> Question:
        config, headers = self._config, host.headers()
        apart = parts_of(config.partition_by, asked.request, headers.all)
        if config.ignore_system_prompts and host.system_prefix:  # what is ignored is the client's own
            apart = encode([apart, host.system_prefix.encode("utf-8", "surrogatepass")])
        partition = partition_of(
            asked.tenant,
            self._namespace(host),
            asked.request,
            sealer,
            ignore_system_prompts=config.ignore_system_prompts,
            headers={name: headers.all(name) for name in config.upstream_headers},
            apart=apart,
        )
        return question_of(asked, partition, sealer)

    def _namespace(self, host: Host) -> str:
        if host.operation is not Operation.CHAT:
            return f"{host.operation}:{host.route_name}"
        if host.route_name:
            return "name:" + host.route_name
        if self._config.namespace:
            return "name:" + self._config.namespace
        if route := host.config_keys.get("route_id"):
            return "route:" + route
        # Attached to a service or to all: one more call, or two routes' answers would mix.
        route = host.call("router.get_route")
        return "route:" + str(route.get("id") if isinstance(route, dict) else "")

    def _resources(self, host: Host, question: Question, sealer: TenantSealer) -> Resources:
        config = self._config
        guarded, wish = REQUEST_GUARD in config.guards, None
        if config.coalesce_max_wait_ms and config.mode != CACHE_ONLY:
            terms = {"life_ms": config.coalesce_max_wait_ms, "stale_s": config.stale_if_error_s}
            wish = wish_of(question, sealer, secrets.token_hex(_TOKEN), **terms)
        return Resources(
            self._store,
            sealer,
            time.time(),
            # Of two texts that say the same the vectors differ.
            similar=self._levels.similar(MODELS) if host.operation is Operation.CHAT else None,
            exact=config.exact_caching,
            guard_passed=lambda: not guarded or let_pass(host.verdict(REQUEST_GUARD)),
            wish=wish,
        )

    def _answer(self, host: Host, question: Question, hit: Hit, now: float) -> NoReturn:
        if host.operation is Operation.CHAT:
            identifier = "chatcmpl-" + secrets.token_hex(_UUID)
            body, kind = replay(hit.entry, question.request, now, identifier=identifier)
        else:
            body, kind = hit.entry.reply.text.encode("utf-8", "surrogatepass"), chat.JSON_TYPE
        headers = {"Content-Type": kind, **hit_headers(hit, now)}
        _count(hit.status, hit.level, question.keys.tenant)
        host.answer(200, body, headers)

    def _only_if_cached(self, host: Host, tenant: TenantId) -> NoReturn:
        # RFC 9111, section 5.2.1.7
        body = error_body(
            "The cache holds no answer, and the request asked for no other.",
            kind=ErrorType.INVALID_REQUEST,
            code=Code.ONLY_IF_CACHED,
        )
        _count(Status.MISS, MissReason.ONLY_IF_CACHED, tenant)
        host.answer(504, body, {"Content-Type": chat.JSON_TYPE, **status_headers(Status.MISS)})

    def _coalesce(
        self, host: Host, question: Question, miss: Miss, leased: Leased | None, resources: Resources
    ) -> str | None:
        """Answer with that of an equal request in flight, if there is one; the token of the lease if this one leads."""
        if resources.wish is None:
            return None

        @contextlib.contextmanager
        def waiting() -> Iterator[float]:
            with host.waiting() as left_ms:
                yield left_ms - _RESERVE_MS

        flight = joins(question, miss, resources, self._store, leased, seats=_SEATS, waiting=waiting)
        _coalesced.inc(role=flight.role)
        if flight.hit is not None:
            self._answer(host, question, flight.hit, time.time())
        return flight.token

    def _spare(
        self, host: Host, question: Question, miss: Miss, resources: Resources
    ) -> Callable[[], None] | None:
        """Answers a miss where no provider can be asked, if there is something to answer with."""
        spare, longest_s = miss.spare, self._config.stale_if_error_s
        if spare is None:
            return None
        if spare.level is Level.STALE and not question.accepts_stale(spare.entry, resources.now, longest_s):
            return None

        def answer() -> None:
            if resources.guard_passed():
                self._answer(host, question, spare, time.time())

        return answer

    def _cache_only(
        self, host: Host, tenant: TenantId | None, spare: Callable[[], None] | None = None
    ) -> NoReturn:
        """Refuse what isn't in the cache, unless there is a spare answer."""
        if spare is not None:
            spare()
        body = error_body(
            "The cache holds no answer, and the gateway sends no requests to providers right now. Try again later.",
            kind=ErrorType.SERVER,
            code=Code.CACHE_ONLY,
        )
        _count(Status.MISS, MissReason.CACHE_ONLY, tenant)
        headers = {"Content-Type": chat.JSON_TYPE, "Retry-After": str(_RETRY_AFTER_S)}
        host.answer(504, body, {**headers, **status_headers(Status.MISS)})

    def _miss(self, host: Host, miss: Miss, pending: Pending) -> None:
        status = Status.REFRESH if miss.refresh else Status.MISS
        _count(status, miss.reason, pending.keys.tenant)
        host.keep(PLUGIN, written(pending))
        host.set_headers(status_headers(status, pending.name))

    def _bypass(self, host: Host, reason: BypassReason, tenant: TenantId | None) -> None:
        if self._config.mode == CACHE_ONLY:
            self._cache_only(host, tenant)
        _count(Status.BYPASS, reason, tenant)
        host.set_headers(status_headers(Status.BYPASS))

    # -- log ----------------------------------------------------------------------------------------------

    def log(self, host: Host) -> None:
        """Store the provider's answer to a miss, and let go on who waits for it."""
        pending = read(host.kept(PLUGIN))
        if pending is None:
            return
        lease, stored = self._own_lease(pending), False
        try:
            stored = self._log(host, pending, lease)
        finally:
            if lease is not None and not stored:
                with contextlib.suppress(UnavailableError):  # it ends by itself
                    self._store.let_go(pending.keys, pending.name, lease)

    def _log(self, host: Host, pending: Pending, lease: OwnLease | None) -> bool:
        """Whether the answer was stored, and the lease let go of."""
        if REPLY_GUARD in self._config.guards and made_for_one(host.verdict(REPLY_GUARD)):
            _stores.inc(outcome=NotStored.GUARD)
            return False
        reply = self._reply(host, pending)
        try:
            for name in pending.damaged:
                self._store.forget(pending.keys, name)
            with contextlib.suppress(UnavailableError):  # which must keep nothing from being stored
                # Before a repeated question's new answer takes the place of the one that it is compared with.
                self._learn(pending, reply)
            outcome = reply if isinstance(reply, NotStored) else self._keep(pending, reply, lease)
        except UnavailableError:
            outcome = NotStored.REDIS
        _stores.inc(outcome=outcome or STORED)
        return outcome is None

    def _own_lease(self, pending: Pending) -> OwnLease | None:
        if pending.lease is None:
            return None
        sealer = _sealer(self._config.encryption_key, pending.keys.tenant)
        return OwnLease(pending.lease, lease_value(sealer, pending.name, pending.lease), _LINGER_MS)

    def _reply(self, host: Host, pending: Pending) -> ChatReply | NotStored:
        record = LogRecord(host.record())
        if host.operation is not Operation.CHAT:
            return admit_vectors(record)
        # Where ai-proxy's response_streaming is `always`, the client need not have asked for it.
        stream = pending.stream or record.is_stream
        reason = _stream_reason(host) if stream else None
        calls = self._config.store_tool_calls
        return admit(record, stream=stream, stream_reason=reason, tool_calls=calls)

    def _keep(self, pending: Pending, reply: ChatReply, lease: OwnLease | None) -> NotStored | None:
        """Store the reply; None if that was done."""
        config = self._config
        limits = {"ttl_s": config.cache_ttl, "max_bytes": config.max_entry_bytes}
        entry = new_entry(pending.question, reply, time.time(), bucket=pending.bucket, **limits)
        if isinstance(entry, NotStored):
            return entry
        sealer = _sealer(config.encryption_key, pending.keys.tenant)
        stored = self._store.store(
            pending.keys,
            pending.name,
            _sealed(entry, pending, sealer),
            ttl_s=config.cache_ttl + config.stale_if_error_s,
            max_entries=config.max_entries,
            max_bytes=config.max_megabytes << 20,
            bucket=pending.bucket,
            lease=lease,
        )
        return None if stored else NotStored.TOO_LARGE

    def _learn(self, pending: Pending, reply: ChatReply | NotStored) -> None:
        """Compare the reply with the stored answer, where the lookup says so."""
        learning = None if pending.bucket is None else self._levels.learning(MODELS)
        if learning is not None:
            sealer = _sealer(self._config.encryption_key, pending.keys.tenant)
            fresh = None if isinstance(reply, NotStored) else reply
            learning.log(pending.keys, sealer, pending.comparison, fresh)


def _sealed(entry: Entry, pending: Pending, sealer: TenantSealer) -> bytes:
    return sealer.seal(entries.encode(entry), key=pending.keys.entry(pending.name).encode())


def _stream_reason(host: Host) -> str | None:
    """How a stream ended, if the rendered Lua was there to see it."""
    if host.call("ctx.shared.get", STREAM_END) is not True:
        return None
    reason = host.call("ctx.shared.get", FINISH_REASON)
    return reason.decode("ascii", "replace") if isinstance(reason, bytes) else reason


def _count(status: Status, detail: str, tenant: TenantId | None) -> None:
    name = status.lower()
    _requests.inc(status=name, detail=detail)
    _by_tenant.inc(tenant=tenant.slug if tenant else "", status=name)


# -- of the process --------------------------------------------------------------------------------------

_lock: Final = threading.Lock()
_stores_by_redis: Final[dict[RedisConfig, tuple[RedisCache, Sweeper]]] = {}
_levels: Final[Shared[Levels]] = Shared(_LEVELS, weak=True)
_sealers: Final[OrderedDict[tuple[str, TenantId], TenantSealer]] = OrderedDict()


def _shared_store(config: RedisConfig) -> tuple[RedisCache, Sweeper]:
    with _lock:
        if config not in _stores_by_redis:
            writer = connect(config, timeout_ms=max(_WRITE_TIMEOUT_MS, config.timeout_ms))
            waiter = connect(config, timeout_ms=_WAIT_TIMEOUT_MS)
            store = RedisCache(connect(config), writer, waiter)
            _stores_by_redis[config] = store, Sweeper(store)
        return _stores_by_redis[config]


def _shared_levels(config: CacheConfig, store: RedisCache) -> Levels:
    """The level of all configurations that say the same about it: it remembers thousands of tenants' plans."""
    return _levels.get((store, *Levels.settings(config)), lambda: Levels(config, store))


def _sealer(encryption_key: str, tenant: TenantId) -> TenantSealer:
    from tenantgate.store.sealing import TenantSealer

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
