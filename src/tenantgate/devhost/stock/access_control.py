"""key-auth, acl, correlation-id, request-size-limiting: who may pass, and how the request is called."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.devhost.entities import Credential, PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.record import headers_table
from tenantgate.devhost.stock.base import StockPlugin

__all__ = ["Acl", "CorrelationId", "KeyAuth", "RequestSizeLimiting"]

_SIZES: Final = {"bytes": 1, "kilobytes": 1024, "megabytes": 1048576}


class KeyAuth(StockPlugin):
    """`kong/plugins/key-auth/handler.lua`."""

    name = "key-auth"

    def __init__(self, credentials: Mapping[str, Credential]) -> None:
        self._credentials = credentials

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """401 without a known key; else the consumer is set, and told to the upstream in headers."""
        config = conf.config
        if not config["run_on_preflight"] and x.method == "OPTIONS":
            return
        realm = config.get("realm")
        challenge = {"WWW-Authenticate": f'Key realm="{realm}"' if realm else "Key"}
        key = self._key(x, config, challenge)
        if not key:
            x.error(401, "No API key found in request", challenge)
        credential = self._credentials.get(key)
        if credential is None:
            x.error(401, "Unauthorized", challenge)
        x.credential, x.consumer = credential, credential.consumer
        for name, value in (
            ("X-Consumer-ID", credential.consumer.id),
            ("X-Consumer-Custom-ID", credential.consumer.custom_id),
            ("X-Consumer-Username", credential.consumer.username),
            ("X-Credential-Identifier", credential.id),
            ("X-Anonymous-Consumer", None),
        ):
            x.headers.popall(name, None)
            if value is not None:
                x.headers[name] = value

    def _key(self, x: Exchange, config: Mapping[str, Any], challenge: dict[str, str]) -> str | None:
        headers, query = headers_table(x.headers.items()), x.query()
        for name in config["key_names"]:
            value = headers.get(name.lower().replace("_", "-")) if config["key_in_header"] else None
            if value is None and config["key_in_query"]:
                value = query.get(name)
            if isinstance(value, list):
                x.error(401, "Duplicate API key found", challenge)
            if isinstance(value, str):
                if config["hide_credentials"]:
                    x.headers.popall(name, None)
                    kept = (p for p in x.args.split("&") if p.partition("=")[0] != name)
                    x.args = "&".join(kept)
                return value
        return None


class Acl(StockPlugin):
    """`kong/plugins/acl/handler.lua`, for consumers."""

    name = "acl"

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """403 where the consumer's groups say so."""
        config = conf.config
        if x.consumer is None:
            x.error(401)
        groups = x.consumer.groups
        deny = bool(config.get("deny"))
        inside = bool(groups & set(config.get("deny" if deny else "allow") or ()))
        if inside if deny else not inside:
            x.error(403, "You cannot consume this service")
        if not config["hide_groups_header"] and groups:
            x.headers["X-Consumer-Groups"] = ", ".join(sorted(groups))


class CorrelationId(StockPlugin):
    """`kong/plugins/correlation-id/handler.lua`."""

    name = "correlation-id"

    def __init__(self) -> None:
        self._worker = str(uuid.uuid4())
        self._counter = itertools.count(1)

    def _new(self, config: Mapping[str, Any]) -> str:
        return str(uuid.uuid4()) if config["generator"] == "uuid" else f"{self._worker}#{next(self._counter)}"

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """Name the request, unless its client did."""
        name = conf.config["header_name"]
        given = x.headers.get(name)
        if not given:
            given = x.headers[name] = self._new(conf.config)
        x.serialize_values.append(("correlation_id", given, "set"))
        x.private.setdefault(conf.id, {})["correlation_id"] = given

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Tell the client, where asked to."""
        name = conf.config["header_name"]
        if conf.config["echo_downstream"]:
            x.out.popall(name, None)
            kept = x.private.get(conf.id, {}).get("correlation_id")
            x.out[name] = kept or x.headers.get(name) or self._new(conf.config)


class RequestSizeLimiting(StockPlugin):
    """`kong/plugins/request-size-limiting/handler.lua`."""

    name = "request-size-limiting"

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """413 above the limit."""
        config = conf.config
        length = x.headers.get("Content-Length", "")
        if length.isdigit():
            size = int(length)
        else:
            if config["require_content_length"] and x.headers.get("Transfer-Encoding") != "chunked":
                x.error(411, "A valid Content-Length header is required")
            size = len(x.body)
        if size > config["allowed_payload_size"] * _SIZES[config["size_unit"]]:
            expect = x.headers.get("Expect", "").strip().lower() == "100-continue"
            x.error(417 if expect else 413, "Request size limit exceeded")
