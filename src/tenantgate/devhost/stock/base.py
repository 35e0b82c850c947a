"""Phases that do nothing, for stock plugins to inherit."""

from __future__ import annotations

from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange

__all__ = ["StockPlugin"]


class StockPlugin:
    """A stock plugin; subclasses override the phases that they have."""

    name: str

    def prepare(self, conf: PluginConfig) -> None:
        """Check a configuration at load, and make ready what it needs; may raise `ConfigError`."""

    def rewrite(self, x: Exchange, conf: PluginConfig) -> None:
        """Before the request has a route, for global configurations only; may end it with `Exited`."""

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """Before the request is proxied; may end it with `Exited`."""

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Before the reply's head is sent."""

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """One piece of the reply; the last one comes alone and empty."""
        return chunk

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """After the reply."""
