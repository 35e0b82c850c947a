"""The plugin objects, one per configuration of Kong's, under the ids that Kong knows them by."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantgate.errors import TenantgateError
from tenantgate.kong.memory import Memory
from tenantgate.kong.policy import PhasePolicy
from tenantgate.telemetry import logs, needs

__all__ = ["Instance", "InstanceError", "Instances", "first_id"]

_log: Final = logging.getLogger("tenantgate.instances")

# Kong changes this with every change of any plugin's configuration; it says nothing about this one's.
_VOLATILE: Final = frozenset({"__seq__"})
_PLACES: Final = frozenset({"__key__", "__plugin_id", "route_id", "service_id", "consumer_id"})
_INDEX_BITS: Final = 3  # of an id: which process gave it


class InstanceError(TenantgateError):
    """No such instance, or it can't be started; the text goes to Kong."""


def first_id() -> int:
    """Where to start counting ids.

    Kong keeps ids over a restart of the server: an old id must reach nothing rather than another
    configuration's instance. With four bits more it has 31, so that Lua's numbers and every MessagePack reader hold
    it.
    """
    return secrets.randbelow(1 << 27)


class _Shared:
    """A plugin object and how many instances use it.

    Attributes:
        owner: whose events these are, as far as is known: of the only tenant who came so far, else the object's own.
    """

    __slots__ = ("_mixed", "_tenant", "key", "owner", "plugin", "policy", "users")

    def __init__(self, key: str, plugin: Any, policy: PhasePolicy) -> None:
        self.key, self.plugin, self.policy = key, plugin, policy
        self.users = 0
        self.owner = f"configuration {secrets.token_hex(8)}"
        self._tenant, self._mixed = self.owner, self.owner

    def seen(self, tenant: str) -> None:
        """Note that an event was this tenant's."""
        if self.owner == tenant:
            return
        if self._tenant == self._mixed:
            self._tenant = self.owner = tenant
        elif self._tenant != tenant:
            self.owner = self._mixed  # a route of several tenants: an event's is known when Kong has told it


class Instance:
    """One instance as Kong knows it."""

    __slots__ = ("config", "id", "plugin", "policy", "shared", "started")

    def __init__(self, number: int, shared: _Shared, config: Any) -> None:
        self.id, self.shared, self.config = number, shared, config
        self.plugin, self.policy = shared.plugin, shared.policy
        self.started = time.time()

    @property
    def owner(self) -> str:
        """Whose events these are, before Kong has told an event's consumer."""
        return self.shared.owner


class Instances:
    """All instances, at most `limit`: Kong never closes those of deleted entities, so the least used go.

    `start`, `close`, `catch_up` and `close_all` are for one thread, `get` for any.
    Instances with equal configuration (of several nginx workers, or before and after a reload) share one plugin object;
    where `cls` has a true `anywhere`, those of several services and routes do as well. Each of the processes that share
    a `memory` has an `index` below 8 of its own, which its ids hold.
    """

    def __init__(
        self,
        name: str,
        cls: Callable[[Any], Any],
        *,
        default: PhasePolicy,
        limit: int = 10_000,
        memory: Memory | None = None,
        index: int = 0,
    ) -> None:
        self._memory = memory
        self._name, self._class, self._default, self._limit = name, cls, default, limit
        self._volatile = _VOLATILE | _PLACES if getattr(cls, "anywhere", False) else _VOLATILE
        self._lock = threading.Lock()
        self._next = first_id() << _INDEX_BITS | index
        self._by_id: OrderedDict[int, Instance] = OrderedDict()
        self._shared: dict[str, _Shared] = {}

    def start(self, argument: Any) -> dict[str, Any]:
        """StartInstance: ``{Name, Config: JSON text}``.

        Raises:
            InstanceError: another plugin's name, or bad JSON. What the plugin's constructor raises passes.
        """
        if not isinstance(argument, Mapping) or not isinstance(argument.get("Config"), str | bytes):
            raise InstanceError("StartInstance takes {Name, Config: JSON text}")
        if argument.get("Name") != self._name:
            raise InstanceError(f"this server runs {self._name} only")
        try:
            config = json.loads(argument["Config"])
        except (ValueError, RecursionError):
            raise InstanceError("Config is not JSON") from None
        while self._next in self._by_id:  # of the process before
            self._next += 1 << _INDEX_BITS
        instance = self._add(self._next, config)
        self._next += 1 << _INDEX_BITS
        if self._memory is not None:
            self._memory.add(instance.id, config)
        logs.event(_log, logging.INFO, "instance started", instance=instance.id)
        return {"Name": self._name, "Id": instance.id, "Config": config, "StartTime": instance.started}

    def restore(self) -> None:
        """Start what the processes before and beside this one have, under the same ids. Kong sees to what can't be."""
        if self._memory is None:
            return
        for number, config in self._memory.news().started.items():
            if not self._learn(number, config):
                self._memory.drop(number)

    def behind(self) -> bool:
        """Whether `catch_up` may have something to do; for any thread."""
        return self._memory is not None and self._memory.behind()

    def catch_up(self) -> None:
        """Start and close what other processes started and closed since the last time."""
        if self._memory is None:
            return
        news = self._memory.news()
        for number, config in news.started.items():
            if number not in self._by_id:
                self._learn(number, config)
        for number in self._by_id.keys() - news.started.keys() if news.whole else news.closed:
            with self._lock:
                instance = self._pop(number)
            self._release(instance)

    def _learn(self, number: int, config: Any) -> bool:
        try:
            self._add(number, config)
        except BaseException as error:  # noqa: BLE001 - a plugin's constructor
            logs.event(_log, logging.ERROR, "instance can't start", **logs.describe(error))
            return False
        return True

    def _add(self, number: int, config: Any) -> Instance:
        key = _key(config, self._volatile)
        with self._lock:
            shared = self._shared.get(key)
        if shared is None:
            plugin = self._class(config)
            shared = _Shared(key, plugin, PhasePolicy.of(plugin, self._default))
        with self._lock:
            shared = self._shared.setdefault(key, shared)
            shared.users += 1
            instance = Instance(number, shared, config)
            self._by_id[instance.id] = instance
            if getattr(
                self._class, "anywhere", False
            ):  # the newest configuration is the one that requests go by
                needs.tell("configuration", there=getattr(shared.plugin, "config_error", None) is None)
            evicted = [self._pop(next(iter(self._by_id))) for _ in range(len(self._by_id) - self._limit)]
        for old in evicted:
            self._forget(old)
        return instance

    def _forget(self, instance: Instance | None) -> None:
        if instance is not None and self._memory is not None:
            self._memory.drop(instance.id)
        self._release(instance)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._by_id

    def get(self, number: Any) -> Instance:
        """The instance with this id.

        Raises:
            InstanceError: there is none; Kong looks for these very words, and starts anew.
        """
        try:
            with self._lock:
                self._by_id.move_to_end(number)
                return self._by_id[number]
        except (KeyError, TypeError):
            raise InstanceError(f"no plugin instance #{_shown(number)}") from None

    def close(self, number: Any) -> dict[str, Any]:
        """CloseInstance: the bare id.

        Raises:
            InstanceError: there is none.
        """
        if number not in self:
            self.catch_up()
        self.get(number)
        with self._lock:
            instance = self._pop(number)
        if instance is None:
            raise InstanceError(f"no plugin instance #{_shown(number)}")
        self._forget(instance)
        return {"Name": self._name, "Id": instance.id, "Config": instance.config}

    def close_all(self) -> None:
        """Close every instance, when the server ends."""
        for number in list(self._by_id):
            with self._lock:
                instance = self._pop(number)
            self._release(instance)

    def __len__(self) -> int:
        return len(self._by_id)

    def _pop(self, number: int) -> Instance | None:
        instance = self._by_id.pop(number, None)
        if instance is not None:
            instance.shared.users -= 1
            if not instance.shared.users:
                self._shared.pop(instance.shared.key, None)
        return instance

    def _release(self, instance: Instance | None) -> None:
        if instance is None or instance.shared.users:
            return
        close = getattr(instance.plugin, "close", None)
        if callable(close):
            try:
                close()
            except Exception as error:  # noqa: BLE001 - it is gone either way
                logs.event(_log, logging.WARNING, "close failed", **logs.describe(error))


def _key(config: Any, volatile: frozenset[str]) -> str:
    if isinstance(config, dict):
        config = {k: v for k, v in config.items() if k not in volatile}
    return json.dumps(config, sort_keys=True)


def _shown(number: Any) -> str:
    return str(number) if isinstance(number, int) else "?"
