"""The pure modules of the plugin tenantgate-failover, for tests: values of Python in and out."""

from __future__ import annotations

from typing import Any

from lupa import luajit21

from tenantgate.paths import plugins_dir


class Module:
    """One module; its functions by name, each with all that it returns: one value, or a tuple."""

    def __init__(self, name: str) -> None:
        self._lua = luajit21.LuaRuntime(encoding="latin-1", unpack_returned_tuples=True)
        self._lua.execute(f"package.path = '{plugins_dir()}/?.lua'")
        self._module = self._lua.eval(f"require 'kong.plugins.tenantgate-failover.{name}'")

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.plain(self._module[name](*(self.table(value) for value in values)))

    def raw(self, name: str) -> Any:
        """The function itself, whose tables stay Lua's."""
        return self._module[name]

    def table(self, value: Any) -> Any:
        """A value for Lua."""
        if isinstance(value, dict):
            return self._lua.table_from({k: self.table(v) for k, v in value.items()})
        if isinstance(value, list | tuple):
            return self._lua.table_from([self.table(v) for v in value])
        return value

    def plain(self, value: Any) -> Any:
        """A value of Lua; a table with the keys 1, 2, … is a list."""
        if isinstance(value, tuple):
            return tuple(self.plain(v) for v in value)
        if luajit21.lua_type(value) != "table":
            return value
        made = {k: self.plain(v) for k, v in value.items()}
        return [made[i + 1] for i in range(len(made))] if set(made) == set(range(1, len(made) + 1)) else made
