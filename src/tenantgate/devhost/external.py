"""Plugins that live in a plugin server: instances, events, and what Kong makes of their failures.

The state machine is `handle_event`, `bridge_loop` (`rpc/mp_rpc.lua`) and `get_instance_id` (`plugin.lua`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from tenantgate.devhost import lua, pdk
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.pdk import MULTI_MAPS, Event, NoSuchMethodError, PdkError, Saved
from tenantgate.devhost.plugin_servers import PluginInfo
from tenantgate.devhost.protocol import Connections, RpcError

__all__ = ["ExternalPlugin", "StartError"]

_STEPS: Final = {
    "kong.client.get_credential": "StepCredential",
    "kong.client.authenticate": "StepCredential",
    "kong.client.load_consumer": "StepConsumer",
    "kong.client.get_consumer": "StepConsumer",
    "kong.node.get_memory_stats": "StepMemoryStats",
    "kong.router.get_route": "StepRoute",
    "kong.router.get_service": "StepService",
    **dict.fromkeys(MULTI_MAPS, "StepMultiMap"),
}


class StartError(Exception):
    """No instance could be started: the one failure that Kong turns into a 500."""


class ExternalPlugin:
    """One plugin in its server."""

    def __init__(self, info: PluginInfo, log: KongLog, timeout_s: float) -> None:
        self.info = info
        self.name = info.name
        self.priority = info.priority
        self.phases = info.phases
        self._log = log
        self._rpc = Connections(info.server.socket, timeout_s)
        self._instances: dict[
            str, tuple[int, int]
        ] = {}  # by entity the number of its configuration, and the id
        self._starting: dict[str, asyncio.Lock] = {}

    async def handle(self, x: Exchange, conf: PluginConfig, phase: Phase, saved: Saved | None = None) -> None:
        """Run one phase. An RPC that fails is logged, and the request goes on without the plugin.

        Raises:
            Exited: the plugin answered.
            StartError: its instance could not be started.
            PdkError: a PDK function raised.
        """
        while True:
            instance = await self._instance(conf)
            try:
                await self._event(x, instance, phase, saved)
            except RpcError as error:
                if "no plugin instance" in str(error).lower():
                    # The server was started anew: all instances of this plugin are gone, not this one only.
                    self._log.write("warn", f"[{self.name}] {error}")
                    self._instances.clear()
                    continue
                self._log.write("err", f"[{self.name}] {error}")
            return

    async def _event(self, x: Exchange, instance: int, phase: Phase, saved: Saved | None) -> None:
        step = await self._rpc.call("HandleEvent", {"InstanceId": instance, "EventName": phase.value})
        at = Event(x, self._log, self.name, saved)
        event = step["EventId"]
        while step["Data"] != "ret":
            method, args = step["Data"]["Method"], step["Data"].get("Args")
            value = self._answer(at, method, args)
            data: dict[str, Any] = {"EventId": event, "Data": value}
            step = await self._rpc.call(_STEPS.get(method, "Step"), data)
            if not isinstance(step, dict):
                return

    def _answer(self, at: Event, method: str, args: Any) -> Any:
        # unpack(args) of a Lua table ends at its first nil.
        given = list(args) if isinstance(args, (list, tuple)) else [args]
        if None in given:
            given = given[: given.index(None)]
        try:
            return pdk.call(at, method, given)
        except NoSuchMethodError as error:
            self._log.write("err", f"could not find pdk method: {error}")
            return lua.MISSING

    async def _instance(self, conf: PluginConfig) -> int:
        # One starts it, the others wait, as in Kong. A request that began by an earlier configuration takes the newer
        # one's instance.
        seq = int(conf.config.get("__seq__", 0))
        if (known := self._instances.get(conf.id)) is not None and known[0] >= seq:
            return known[1]
        async with self._starting.setdefault(conf.id, asyncio.Lock()):
            known = self._instances.get(conf.id)
            if known is not None and known[0] >= seq:
                return known[1]
            config = lua.from_bytes(lua.encode(conf.config))
            try:
                started = await self._rpc.call("StartInstance", {"Name": self.name, "Config": config})
                number = int(started["Id"])
            except (RpcError, LookupError, TypeError, ValueError) as error:
                self._log.write("err", f"[{self.name}] starting instance: {error}")
                raise StartError(str(error)) from error
            self._instances[conf.id] = (seq, number)
            if known is not None:
                with contextlib.suppress(RpcError):
                    await self._rpc.call("CloseInstance", known[1])
            return number

    async def log_phase(self, x: Exchange, conf: PluginConfig, saved: Saved) -> None:
        """The log phase, in the background: whatever goes wrong ends here."""
        try:
            await self.handle(x, conf, Phase.LOG, saved)
        except (StartError, PdkError) as error:
            self._log.write("err", f"[{self.name}] lua entry thread aborted: {error}")

    def close(self) -> None:
        """Close the connections to the server."""
        self._rpc.close()
