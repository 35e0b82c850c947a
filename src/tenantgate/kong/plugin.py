"""`TenantPlugin`: the base of all plugins. It holds one configured instance, and what a failure does to a request."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, TypeVar

from tenantgate.errors import ConfigError
from tenantgate.fields import build, check
from tenantgate.kong.host import Host
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import DEFAULT_DEADLINE_MS, PhasePolicy
from tenantgate.kong.reply_watch import ReplyWatch
from tenantgate.llm.log_record import LogRecord
from tenantgate.manifest import PluginManifest, resolve
from tenantgate.telemetry import logs

__all__ = ["TenantPlugin"]

C = TypeVar("C")

_log: Final = logging.getLogger("tenantgate.plugin")
_KONG_KEYS: Final = ("__plugin_id", "route_id", "service_id", "consumer_id", "__ws_id", "__key__", "__seq__")


class TenantPlugin(Generic[C]):
    """One configured instance of the plugin that `manifest` describes, with a method for each of its phases.

    Attributes:
        config: there if each of its fields is right.
        config_error: what is wrong with the configuration, or None. Each phase then fails with it, and does what
            `policy` says.
        config_keys: the entity's ids in Kong: ``route_id``, ``service_id`` …
        policy: what a failure does to a request.
    """

    manifest: ClassVar[PluginManifest[Any]]
    config: C
    config_error: ConfigError | None
    config_keys: Mapping[str, str]
    policy: PhasePolicy

    def __init_subclass__(cls, *, manifest: PluginManifest[C]) -> None:
        cls.manifest = manifest
        for name in manifest.phases:
            setattr(cls, name, _phase(name))

    def __init__(self, values: dict[str, Any]) -> None:
        """Set up from the configuration that Kong sent; bad values are no exception, but `config_error`."""
        self.config_error = None
        self.config_keys = {k: values[k] for k in _KONG_KEYS if isinstance(values.get(k), str)}
        # A configuration that can't be read fails as its author asked: `on_error` may well be readable.
        self.policy = PhasePolicy.from_values(values, PhasePolicy())
        try:
            self.config = build(self.manifest.config_class, values)
            self.policy = self._policy()
            check(self.config)
        except ConfigError as problem:
            self.config_error = problem
            logs.event(_log, logging.ERROR, "configuration can't be used", problem=str(problem))
        # Before the first phase, which has a deadline. What fails here fails there, too, and then as the policy says:
        # Kong answers 500 where an instance can't be made.
        with contextlib.suppress(Exception):
            self.prepare()

    def _policy(self) -> PhasePolicy:
        own = None if self.manifest.own_deadline else getattr(self.config, "deadline_ms", None)
        return PhasePolicy(
            reject=self.manifest.rejects(self.config), deadline_ms=float(own or DEFAULT_DEADLINE_MS)
        )

    @classmethod
    def prepare(cls) -> None:
        """Import what the plugin's service needs. Kong also loads a plugin's file for its schema alone, and quickly."""
        resolve(cls.manifest.service)

    def service(self) -> Any:
        """The object whose methods, called like the phases, do the work; made at the instance's first event."""
        return resolve(self.manifest.service)(self.config)

    def close(self) -> None:
        """Kong has closed the last instance with this configuration."""
        close = getattr(vars(self).get("_service"), "close", None)
        if callable(close):
            close()

    @cached_property
    def _service(self) -> Any:
        return self.service()

    @cached_property
    def _reply_watch(self) -> ReplyWatch | None:
        return ReplyWatch() if self.manifest.needs_replies(self.config) else None

    def _watch_replies(self, host: Host) -> None:
        """Say once that ai-proxy's settings keep the plugin from reading replies; nothing else would show it."""
        watch, record = self._reply_watch, host.recorded
        if watch is not None and record is not None and watch.finds_none(LogRecord(record)):
            logs.event(
                _log,
                logging.WARNING,
                "no reply in Kong's log record",
                plugin=self.manifest.name,
                route=self.config_keys.get("route_id", ""),
                needs="ai-proxy's logging.log_statistics and logging.log_payloads",
            )


def _phase(name: str) -> Callable[[TenantPlugin[Any], Any], None]:
    def run(self: TenantPlugin[Any], host: Host) -> None:
        getattr(self._service, name)(host)
        if name == "log":
            self._watch_replies(host)

    run.__name__ = name
    return phase(run)
