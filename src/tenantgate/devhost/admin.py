"""The embedded host's Admin API: what a Kong without a database shows and lets change (kong/api/routes/config.lua)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import yaml
from aiohttp import web

from tenantgate.apply.core.entities import KINDS, Entity, from_tree
from tenantgate.devhost.variables import SERVER
from tenantgate.errors import ConfigError

__all__ = ["admin_app"]

_MAX_BODY: Final = 10 << 20  # nginx_admin_client_max_body_size
_PATHS: Final = {"key-auths" if kind == "keyauth_credentials" else kind: kind for kind in KINDS}
_PAGE: Final = 100
_PAGE_MAX: Final = 1000


class _Admin:
    def __init__(self, text: str, take: Callable[[str], Awaitable[None]]) -> None:
        self._text = text
        self._take = take
        self._entities: list[Entity] | None = None

    async def root(self, _request: web.Request) -> web.Response:
        return web.json_response({"configuration": {"database": "off"}, "tagline": SERVER})

    async def status(self, _request: web.Request) -> web.Response:
        digest = hashlib.md5(self._text.encode(), usedforsecurity=False).hexdigest()
        return web.json_response({"configuration_hash": digest, "server": SERVER})

    async def config(self, _request: web.Request) -> web.Response:
        return web.json_response({"config": self._text})

    async def replace(self, request: web.Request) -> web.Response:
        text = await request.text()
        try:
            body = json.loads(text)
            text = body["config"] if isinstance(body, dict) and "config" in body else text
        except ValueError:
            pass  # the configuration itself, in YAML
        try:
            await self._take(text)
        except ConfigError as error:
            answer = {"code": 14, "name": "invalid declarative configuration", "message": str(error)}
            return web.json_response(answer, status=400)
        self._text, self._entities = text, None
        return web.json_response({}, status=201)

    async def listed(self, request: web.Request) -> web.Response:
        kind = _PATHS.get(request.match_info["kind"])
        if kind is None:
            return web.json_response({"message": "Not found"}, status=404)
        if self._entities is None:
            self._entities = from_tree(yaml.safe_load(self._text))
        found = [e for e in self._entities if e.kind == kind]
        size = min(_PAGE_MAX, int(request.query.get("size", _PAGE)))
        start = int(request.query.get("offset", 0))
        end = start + size
        following = f"/{request.match_info['kind']}?offset={end}&size={size}" if end < len(found) else None
        return web.json_response({"data": [_shown(e) for e in found[start:end]], "next": following})


def _shown(entity: Entity) -> dict[str, Any]:
    owners = {
        o: {"id": v} for o in ("certificate", "service", "route", "consumer") if (v := entity.fields.get(o))
    }
    return {"id": entity.id, **entity.fields, **owners}


def admin_app(text: str, take: Callable[[str], Awaitable[None]]) -> web.Application:
    """The Admin API.

    Args:
        text: the configuration with which the gateway starts.
        take: puts another one in its place, or raises `ConfigError` and leaves it.
    """
    admin = _Admin(text, take)
    app = web.Application(client_max_size=_MAX_BODY)
    app.router.add_get("/", admin.root)
    app.router.add_get("/status", admin.status)
    app.router.add_get("/config", admin.config)
    app.router.add_post("/config", admin.replace)
    app.router.add_get("/{kind}", admin.listed)
    return app
