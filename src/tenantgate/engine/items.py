"""Items of responses, kept for a while: a client of `/v1/responses` may name one instead of sending it again.

Each is sealed with its tenant's key and lies under a name that only this key makes, so that another tenant's id finds
nothing: ``tg:items:1:{tenant}:<name>``, with an expiry. A client's next request may come before the log phase of the
one before, which stores the items, is through; so an id that isn't there yet is looked for again, for a moment.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import redis

from tenantgate import llm
from tenantgate.llm.body import parse
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_limits import REQUEST
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

__all__ = ["Item", "ItemStore", "item_store"]

Item = Mapping[str, Any]
Waiting = Callable[[], AbstractContextManager[float]]

_log: Final = logging.getLogger("tenantgate.items")
_ID: Final = re.compile(r"(?:msg|fc|rs)_[0-9a-f]{32}(?:_[0-9]{1,4})?")
"""Ids that tenantgate-format gives: of 128 random bits, Kong's id of the request. No other can have been kept."""
_MOST: Final = 500  # of a request
_PAUSES_S: Final = (0.01, 0.02, 0.04, 0.08, 0.15)
_WRITE_TIMEOUT_MS: Final = 250  # nobody waits


class ItemStore:
    """Items of all tenants; thread-safe.

    Args:
        reader, writer: where they lie, for a client that waits and for the log phase.
        encryption_key: the operator's, from which each tenant's own is derived.
        keep_s: how long an item is kept, in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        reader: Nodes,
        writer: Nodes,
        *,
        encryption_key: str,
        keep_s: int,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._reader, self._writer, self._keep_s = reader, writer, keep_s
        self._encryption_key, self._sleep = encryption_key, sleep

    def keep(self, tenant: TenantId, output: bytes) -> None:
        """Store a response's output, a JSON list of items. Where Redis fails they aren't known later."""
        items = parse(output)
        sealer = TenantSealer(self._encryption_key, tenant)
        sealed = {}
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and _is_ours(item.get("id")):
                key = _key(tenant, sealer, item["id"])
                sealed[key] = sealer.seal(llm.write(item), key=key.encode())
        if not sealed:
            return
        try:
            self._store(sealed)
        except (redis.RedisError, OSError) as error:
            logs.event(_log, logging.WARNING, "items of a response weren't kept", kind=type(error).__name__)

    def _store(self, sealed: Mapping[str, bytes]) -> None:
        node = self._writer.node(next(iter(sealed)))  # a tenant's keys are all on one

        def run(client: Any) -> None:
            with client.pipeline(transaction=False) as pipeline:
                for key, value in sealed.items():
                    pipeline.set(key, value, ex=self._keep_s)
                pipeline.execute()

        try:
            node.ask(run)
        except redis.ResponseError as error:
            node.learn(error)
            raise

    def find(
        self, tenant: TenantId, ids: Sequence[str], waiting: Waiting | None = None
    ) -> Mapping[str, Item]:
        """The items of these ids that there are; none where Redis can't be asked, or the ids are too many.

        `waiting`: as `Host.waiting`, to wait for items that are being stored; None: don't.
        """
        wanted = [each for each in dict.fromkeys(ids) if _is_ours(each)]
        if not wanted or len(wanted) > _MOST:
            return {}
        sealer = TenantSealer(self._encryption_key, tenant)
        try:
            found = self._look(tenant, sealer, wanted)
            if len(found) == len(wanted) or waiting is None:
                return found
            with waiting() as left_ms:
                left_s = left_ms / 1000
                for pause_s in _PAUSES_S:
                    left_s -= pause_s
                    if left_s <= 0 or len(found) == len(wanted):
                        break
                    self._sleep(pause_s)
                    missing = [each for each in wanted if each not in found]
                    found |= self._look(tenant, sealer, missing)
        except (redis.RedisError, OSError) as error:
            logs.event(
                _log, logging.WARNING, "items of responses can't be looked up", kind=type(error).__name__
            )
            return {}
        return found

    def _look(self, tenant: TenantId, sealer: TenantSealer, ids: Sequence[str]) -> dict[str, Item]:
        keys = [_key(tenant, sealer, each) for each in ids]
        stored = self._reader.ask(keys[0], lambda client: client.mget(keys))
        found: dict[str, Item] = {}
        for each, key, sealed in zip(ids, keys, stored, strict=True):
            plain = sealer.open(sealed, key=key.encode()) if isinstance(sealed, bytes) else None
            item = None if plain is None else parse(plain)
            if isinstance(item, dict):
                found[each] = item
        return found


def _is_ours(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _key(tenant: TenantId, sealer: TenantSealer, item: str) -> str:
    return f"tg:items:1:{{{tenant.slug}}}:{sealer.name(b'item:' + item.encode())}"


_stores: Final[Shared[ItemStore]] = Shared(16)


def item_store(config: RedisConfig, encryption_key: str, keep_s: int) -> ItemStore | None:
    """The process's store; None where nothing is kept."""
    if not keep_s:
        return None
    return _stores.get(
        (config, encryption_key, keep_s),
        lambda: ItemStore(
            connect(config, limits=REQUEST),
            connect(config, timeout_ms=max(_WRITE_TIMEOUT_MS, config.timeout_ms)),
            encryption_key=encryption_key,
            keep_s=keep_s,
        ),
    )
