"""pre-function and post-function: Lua from the configuration, in Kong's sandbox."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.lua_names import unknown
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.errors import ConfigError

__all__ = ["PHASES", "Function", "compiled"]

PHASES: Final = ("rewrite", "access", "header_filter", "body_filter", "log")


def compiled(state: LuaState, code: str, name: str, where: str) -> Any:
    """The code as a function.

    Raises:
        ConfigError: it is no Lua, or names a function of Kong's that the host doesn't have.
    """
    if found := unknown(code, state.names):
        raise ConfigError(f"{where}: the embedded host has no {found}; use a real Kong")
    try:
        return state.compile(code, name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


class Function(StockPlugin):
    """One of the two plugins (`kong/plugins/pre-function/_handler.lua`)."""

    def __init__(self, name: str, state: LuaState) -> None:
        self.name = name
        self._state = state
        self._chains: dict[tuple[str, str], Any] = {}

    def prepare(self, conf: PluginConfig) -> None:
        """Compile the code of all phases, which Kong does at the first request.

        Raises:
            ConfigError: names the place of code that the host can't run.
        """
        for phase in PHASES:
            if codes := conf.config[phase]:
                functions = [
                    compiled(
                        self._state, code, f"{self.name}.{phase}[{i}]", f"{conf.where}: config.{phase}[{i}]"
                    )
                    for i, code in enumerate(codes)
                ]
                self._chains[conf.id, phase] = self._state.chain(functions)

    def _run(self, x: Exchange, conf: PluginConfig) -> None:
        if chain := self._chains.get((conf.id, x.phase.value)):
            self._state.run(x, self.name, chain)

    def rewrite(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the code of the rewrite phase."""
        self._run(x, conf)

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the code of the access phase."""
        self._run(x, conf)

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the code of the header_filter phase."""
        self._run(x, conf)

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """Run the code of the body_filter phase on a piece of the body."""
        if chain := self._chains.get((conf.id, "body_filter")):
            return self._state.filter(x, self.name, chunk, chain, last=last)
        return chunk

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the code of the log phase."""
        self._run(x, conf)
