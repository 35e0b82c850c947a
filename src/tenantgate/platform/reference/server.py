"""The reference platform's HTTP: what docs/platform-api.json says, and ``/_mock`` to set it up.

``PUT /_mock/tenants`` replaces the list, ``PUT /_mock/tenants/ID`` and ``DELETE`` change one, ``PUT /_mock/version``
sets the list's version, as a restore would; ``PUT /_mock/faults`` (`tenantgate.platform.reference.faults`) makes
requests fail; ``GET /_mock/requests`` counts what was asked. All of it takes the same token.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import re
import signal
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.limit_config import Budget, TokenLimit
from tenantgate.platform.core.signature import sign
from tenantgate.platform.document import BATCH_MAX, BODY_MAX, PAGE_DEFAULT, PAGE_MAX, document
from tenantgate.platform.reference.faults import Fault, Faults
from tenantgate.platform.reference.storage import Result, Storage

__all__ = ["Options", "ReferencePlatform", "run"]

_BATCH_TYPE: Final = "application/cloudevents-batch+json"
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{1,1000}")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_TEXT_MAX: Final = 512
_OPEN: Final = ("/_mock/ready", "/v1/openapi.json")
_WEBHOOK_S: Final = 5.0
_COUNTED: Final = {
    "accepted": "accepted",
    "duplicate": "duplicates",
    "ignored": "ignored",
    "rejected": "rejected",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How it runs.

    Attributes:
        port: 0 takes any.
        data: the SQLite file; None: in memory.
        tenants: YAML or JSON list of tenants that it begins with.
        webhook_url: gets a message signed with `webhook_secret` at each change of tenants.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = field(repr=False)
    data: Path | None = None
    tenants: Path | None = None
    webhook_url: str | None = None
    webhook_secret: bytes | None = field(default=None, repr=False)


class _ProblemError(Exception):
    """Ends a request with an error of RFC 9457."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


class ReferencePlatform:
    """The application and its state."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.storage = Storage(options.data)
        self.faults = Faults()
        self._asked: Counter[str] = Counter()
        self._messages: set[asyncio.Future[Any]] = set()
        if options.tenants is not None:
            self.storage.put(_tenants_of(options.tenants), whole=True)

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application(client_max_size=BODY_MAX + 1, middlewares=[self._problems, self._guard])
        app.router.add_get("/v1/tenants", self._list_tenants, allow_head=False)
        app.router.add_get("/v1/tenants/{tenant}", self._get_tenant, allow_head=False)
        app.router.add_post("/v1/usage/events", self._post_events)
        app.router.add_get("/v1/usage/ledger", self._get_ledger, allow_head=False)
        app.router.add_get("/v1/usage/corrections", self._get_corrections, allow_head=False)
        app.router.add_get("/v1/usage/sources", self._get_sources, allow_head=False)
        app.router.add_get("/v1/openapi.json", self._get_document)
        app.router.add_get("/_mock/ready", self._ready)
        app.router.add_get("/_mock/requests", self._requests)
        app.router.add_put("/_mock/faults", self._set_faults)
        app.router.add_put("/_mock/version", self._set_version)
        app.router.add_put("/_mock/tenants", self._put_tenants)
        app.router.add_put("/_mock/tenants/{tenant}", self._put_tenant)
        app.router.add_delete("/_mock/tenants/{tenant}", self._delete_tenant)
        return app

    # -- every request ------------------------------------------------------------------------------------

    @web.middleware
    async def _problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors as RFC 9457 has them."""
        try:
            return await handler(request)
        except _ProblemError as problem:
            return _problem(problem.status, problem.detail, problem.headers)
        except web.HTTPException as error:
            kept = {k: v for k, v in error.headers.items() if k == "Allow"}
            detail = f"more than {BODY_MAX} bytes" if error.status == 413 else ""
            return _problem(error.status, detail, kept)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The token, and the faults that a test has asked for."""
        if request.path not in _OPEN and not isinstance(request.match_info.http_exception, web.HTTPNotFound):
            self._check_token(request)
        if request.path.startswith("/_mock/"):
            return await handler(request)
        self._asked[request.path] += 1
        fault = self.faults.choose(request.path)
        return await handler(request) if fault is None else await _faulty(request, handler, fault)

    def _check_token(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(token.encode("utf-8", "replace"), self._options.token.encode())
        if kind.lower() != "bearer" or not right:
            raise _ProblemError(
                401, "the bearer token is missing, or not known", {"WWW-Authenticate": "Bearer"}
            )

    # -- the API ------------------------------------------------------------------------------------------

    async def _list_tenants(self, request: web.Request) -> web.StreamResponse:
        _check_query(request)
        version = self.storage.version
        limit, position = _limit(request), _cursor(request, 2)
        if position and position[0] != str(version):
            raise _ProblemError(409, f"the list has version {version} now")
        etag = f'"v{version}"'
        if _matches(request, etag):
            return web.Response(status=304, headers={"ETag": etag})
        found = self.storage.tenants(after=position[1] if position else "", limit=limit + 1)
        body = _page(found, limit, lambda last: (str(version), last["id"]))
        return web.json_response({"version": version, **body}, headers={"ETag": etag})

    async def _get_tenant(self, request: web.Request) -> web.StreamResponse:
        name = _tenant(request.match_info["tenant"])
        found = self.storage.tenant(name)
        if found is None:
            raise _ProblemError(404, "there is no such tenant")
        etag = f'"v{found[1]}"'
        if _matches(request, etag):
            return web.Response(status=304, headers={"ETag": etag})
        return web.json_response(found[0], headers={"ETag": etag})

    async def _post_events(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != _BATCH_TYPE:
            raise _ProblemError(415, f"the body must be {_BATCH_TYPE}")
        batch = await _json(request)
        if not isinstance(batch, list):
            raise _ProblemError(400, "the body must be a list of events")
        if len(batch) > BATCH_MAX:
            raise _ProblemError(413, f"{len(batch)} events, takes at most {BATCH_MAX}")
        results = self.storage.take(batch)
        counts = Counter(result.status for result in results)
        told = {name: counts[status] for status, name in _COUNTED.items()}
        return web.json_response({**told, "results": [_result(r) for r in results]}, status=202)

    async def _get_ledger(self, request: web.Request) -> web.StreamResponse:
        _check_query(request, "tenant", "model", "from", "to")
        where = {}
        if (tenant := _one(request, "tenant")) is not None:
            where["tenant"] = _tenant(tenant)
        if (model := _one(request, "model")) is not None:
            if not 0 < len(model) <= _TEXT_MAX:
                raise _ProblemError(400, f"model: must have 1 to {_TEXT_MAX} characters")
            where["model"] = model
        since, until = _day(request, "from", "0000-00-00"), _day(request, "to", "9999-99-99")
        limit, position = _limit(request), _cursor(request, 4)
        found = self.storage.ledger(
            where=where, since=since, until=until, after=position or ("",) * 4, limit=limit + 1
        )
        names = ("tenant", "day", "provider", "model")
        return web.json_response(_page(found, limit, lambda last: [last[name] for name in names]))

    async def _get_corrections(self, request: web.Request) -> web.StreamResponse:
        _check_query(request, "tenant")
        given = _one(request, "tenant")
        tenant = "" if given is None else _tenant(given)
        limit, position = _limit(request), _cursor(request, 1)
        if position and not _COUNT.fullmatch(position[0]):
            raise _ProblemError(409, "cursor: isn't one of this list's")
        after = int(position[0]) if position else 0
        found = self.storage.corrections(tenant=tenant, after=after, limit=limit + 1)
        body = _page(found, limit, lambda last: [str(last[0])])
        return web.json_response({**body, "data": [correction for _, correction in body["data"]]})

    async def _get_sources(self, request: web.Request) -> web.StreamResponse:
        _check_query(request)
        limit, position = _limit(request), _cursor(request, 2)
        found = self.storage.sources(after=position or ("", ""), limit=limit + 1)
        return web.json_response(_page(found, limit, lambda last: (last["source"], last["tenant"])))

    async def _get_document(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(document())

    # -- control ------------------------------------------------------------------------------------------

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"ready": True})

    async def _requests(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(dict(self._asked))

    async def _set_faults(self, request: web.Request) -> web.StreamResponse:
        try:
            self.faults.set(await _json(request))
        except (ValueError, TypeError) as error:
            raise _ProblemError(400, str(error)) from None
        return web.json_response({})

    async def _set_version(self, request: web.Request) -> web.StreamResponse:
        version = await _json(request)
        if type(version) is not int or version < 1:
            raise _ProblemError(400, "must be a whole number from 1")
        self.storage.set_version(version)
        return web.json_response({"version": version})

    async def _put_tenants(self, request: web.Request) -> web.StreamResponse:
        tenants = await _json(request)
        _check_tenants(tenants)
        return self._changed(self.storage.put(tenants, whole=True))

    async def _put_tenant(self, request: web.Request) -> web.StreamResponse:
        body = await _json(request)
        if not isinstance(body, dict):
            raise _ProblemError(400, "must be an object")
        tenant = {**body, "id": _tenant(request.match_info["tenant"])}
        _check_tenants([tenant])
        return self._changed(self.storage.put([tenant], whole=False))

    async def _delete_tenant(self, request: web.Request) -> web.StreamResponse:
        if not self.storage.remove(_tenant(request.match_info["tenant"])):
            raise _ProblemError(404, "there is no such tenant")
        return self._changed(self.storage.version)

    def _changed(self, version: int) -> web.Response:
        options = self._options
        if options.webhook_url is not None and options.webhook_secret is not None:
            sent = asyncio.get_running_loop().run_in_executor(
                None, _send_webhook, options.webhook_url, options.webhook_secret, version
            )
            self._messages.add(sent)
            sent.add_done_callback(self._messages.discard)
        return web.json_response({"version": version})


# -- parts of requests ---------------------------------------------------------------------------------------


def _problem(status: int, detail: str, headers: Mapping[str, str]) -> web.Response:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return web.json_response(
        body | ({"detail": detail} if detail else {}),
        status=status,
        headers=dict(headers),
        content_type="application/problem+json",
    )


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise _ProblemError(400, "the body isn't JSON") from None


def _check_query(request: web.Request, *names: str) -> None:
    """Refuse parameters that nobody reads: a `form` in place of `from` would give another answer than was asked for."""
    if unknown := sorted(set(request.query) - {"limit", "cursor", *names}):
        raise _ProblemError(400, f"{unknown[0][:80]}: is no parameter of this")


def _one(request: web.Request, name: str) -> str | None:
    found = request.query.getall(name, [])
    if len(found) > 1:
        raise _ProblemError(400, f"{name}: is there twice")
    if found and not _plain(found[0]):
        raise _ProblemError(400, f"{name}: has a character that is none")
    return found[0] if found else None


def _plain(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _limit(request: web.Request) -> int:
    found = _one(request, "limit")
    if found is None:
        return PAGE_DEFAULT
    if not _COUNT.fullmatch(found) or not 1 <= int(found) <= PAGE_MAX:
        raise _ProblemError(400, f"limit: must be a whole number from 1 to {PAGE_MAX}")
    return int(found)


def _tenant(text: str) -> str:
    if not _TENANT.fullmatch(text):
        raise _ProblemError(400, "tenant: must be a tenant's id")
    return text


def _day(request: web.Request, name: str, default: str) -> str:
    found = _one(request, name)
    if found is None:
        return default
    with contextlib.suppress(ValueError):
        if len(found) == len(default) and found.isascii() and date.fromisoformat(found):
            return found
    raise _ProblemError(400, f"{name}: must be a day such as 2026-11-29")


def _cursor(request: web.Request, parts: int) -> Sequence[str]:
    """What `_page` has put into the cursor: so many texts; none where there is no cursor."""
    text = _one(request, "cursor")
    if text is None:
        return ()
    if not _CURSOR.fullmatch(text):
        raise _ProblemError(400, "cursor: must be one of this server's")
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), "-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != parts
        or not all(isinstance(part, str) and _plain(part) for part in found)
    ):
        raise _ProblemError(409, "cursor: isn't one of this list's")
    return found


def _page(found: Sequence[Any], limit: int, position: Callable[[Any], Sequence[str]]) -> dict[str, Any]:
    """A page of `limit` of the entries found, which are one more if there is another page."""
    shown, cursor = found[:limit], None
    if len(found) > limit:
        raw = json.dumps(list(position(shown[-1])), separators=(",", ":")).encode()
        cursor = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"data": list(shown), "next_cursor": cursor}


def _matches(request: web.Request, etag: str) -> bool:
    """Whether ``If-None-Match`` has the ETag, weak or strong (RFC 9110, section 13.1.2)."""
    given = request.headers.get("If-None-Match", "")
    return given.strip() == "*" or etag in [t.strip().removeprefix("W/") for t in given.split(",")]


def _result(result: Result) -> dict[str, str]:
    told = {"source": result.source, "id": result.id, "detail": result.problem}
    return {"status": result.status, **{name: text for name, text in told.items() if text}}


def _check_tenants(tenants: Any) -> None:
    """As `validate` would check their limits, but for what takes the tenants' models."""
    if not isinstance(tenants, list):
        raise _ProblemError(400, "must be a list of tenants")
    seen = set()
    for i, tenant in enumerate(tenants):
        if not isinstance(tenant, dict) or not isinstance(tenant.get("id"), str):
            raise _ProblemError(400, f"[{i}].id: required")
        if _tenant(tenant["id"]) in seen:
            raise _ProblemError(400, f"[{i}].id: is there twice")
        seen.add(tenant["id"])
        try:
            for name, cls in (("token_limits", TokenLimit), ("budgets", Budget)):
                for k, value in enumerate(tenant.get(name) or ()):
                    parse(cls, value, where=f"[{i}].{name}[{k}]", strict=True)
        except ConfigError as error:
            raise _ProblemError(400, str(error)) from None


def _tenants_of(path: Path) -> list[dict[str, Any]]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        _check_tenants(found)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--tenants {path}: can't be read ({type(error).__name__})") from None
    except _ProblemError as error:
        raise ConfigError(f"--tenants {path}: {error.detail}") from None
    tenants: list[dict[str, Any]] = found
    return tenants


async def _faulty(request: web.Request, handler: Handler, fault: Fault) -> web.StreamResponse:
    await asyncio.sleep(fault.latency_ms / 1000)
    if fault.fault == "hang":
        await asyncio.Event().wait()
    if fault.fault == "lost_answer":
        await handler(request)
    if fault.fault in ("lost_answer", "close"):
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if fault.fault in ("malformed", "short", "large"):
        return await _with_wrong_body(request, fault.fault)
    if fault.status != 200:
        raise _ProblemError(fault.status, "the platform was told to fail", fault.headers)
    return await handler(request)


async def _with_wrong_body(request: web.Request, fault: str) -> web.StreamResponse:
    if fault == "malformed":
        return web.Response(body=b'{"data": [', content_type="application/json")
    response = web.StreamResponse(headers={"Content-Length": "1000"} if fault == "short" else {})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(b'{"data": [')
        while fault == "large":
            await response.write(b" " * (1 << 20))
    if request.transport is not None:
        request.transport.close()
    return response


def _send_webhook(url: str, secret: bytes, version: int) -> None:
    """Tell the mirror; a message that is lost costs nothing but time, since it pulls by itself, too."""
    now = int(time.time())
    body = json.dumps(
        {
            "type": "tenants.changed",
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
            "data": {"version": version},
        }
    ).encode()
    identifier = f"msg_{uuid.uuid4().hex}"
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identifier,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secret, identifier=identifier, timestamp=now, body=body),
    }
    with contextlib.suppress(OSError, ValueError):
        urllib.request.urlopen(  # noqa: S310 - the operator's own address
            urllib.request.Request(url, body, headers),  # noqa: S310
            timeout=_WEBHOOK_S,
        ).close()


# -- the process ---------------------------------------------------------------------------------------------


async def _serve(options: Options) -> None:
    platform = ReferencePlatform(options)
    runner = web.AppRunner(platform.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port)
    await site.start()
    port = runner.addresses[0][1]
    sys.stdout.write(f"http://{options.host}:{port}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await runner.cleanup()
    platform.storage.close()


def run(options: Options) -> int:
    """Serve until SIGTERM; the address is printed when it listens."""
    asyncio.run(_serve(options))
    return 0
