from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lua_rig import Log, exchange, plugin
from tenantgate.devhost import lua_plugins
from tenantgate.devhost.entities import GatewayConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.pipeline import Pipeline
from tenantgate.devhost.stock.base import StockPlugin


class Own(lua_plugins.LuaPlugin):
    """A plugin of this name and priority that notes its turns."""

    def __init__(self, name: str, priority: int, turns: list[str]) -> None:
        self.name, self.priority, self._turns = name, priority, turns

    def header_filter(self, x: Exchange, conf: Any) -> None:
        self._turns.append(self.name)

    def body_filter(self, x: Exchange, conf: Any, chunk: bytes, *, last: bool) -> bytes:
        return chunk

    def log(self, x: Exchange, conf: Any) -> None:
        pass


class Nobody:
    """A client that hears nothing."""

    async def head(self, status: int, headers: Any) -> None: ...

    async def write(self, chunk: bytes) -> None: ...

    async def end(self) -> None: ...

    def cut(self) -> None: ...


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ({"a": 1, "b": 3, "c": 2}, "bca"),
        ({"a": 5, "b": 5, "c": 5}, "cba"),  # of equal ones the last name comes first
        ({"a": -1000, "b": 10**6, "c": -1000}, "bca"),
    ],
)
def test_plugins_run_in_kongs_order(priorities: dict[str, int], order: str) -> None:
    turns: list[str] = []
    stock: dict[str, StockPlugin] = {n: Own(n, p, turns) for n, p in priorities.items()}
    config = GatewayConfig(
        routes=(), services=(), consumers={}, credentials={}, plugins=tuple(plugin(n) for n in priorities)
    )
    asyncio.run(Pipeline(config, stock, {}, None, Log()).refuse(exchange(), Nobody(), 413))  # type: ignore[arg-type]
    assert "".join(turns) == order
