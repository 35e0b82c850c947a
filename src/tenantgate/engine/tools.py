"""MCP requests in the engine's phases: the protocol's part, joined with guards, limits, audit log and Kong.

A call of a tool goes to its API by the plugin tenantgate-mcp: the access phase leaves what is to be sent, the response
phase turns the reply, which is held back, into the result. Calls to Kong: access two, or one more where the gateway
answers itself; response four; log one, two with an audit log.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenantgate.engine.admission import end_user_by_header
from tenantgate.engine.core.tables import DECISION, END_USER
from tenantgate.engine.exchange import Exchange
from tenantgate.engine.tenants import MCP
from tenantgate.kong.host import MOST_SENT, Answered
from tenantgate.limits.core.claims import Asked, Offer, claims_of, end_user_subject, read_held
from tenantgate.limits.core.ends import Billed, End, settlement
from tenantgate.limits.core.ledger import NotCountedError, Reservation
from tenantgate.limits.core.reply import headers as headers_of_limits
from tenantgate.limits.core.reply import refusal
from tenantgate.limits.core.rules import Counted
from tenantgate.mcp.cache import StoredReply, reply_cache
from tenantgate.mcp.core.access import is_allowed_host, is_allowed_origin, principals_of
from tenantgate.mcp.core.protocol.errors import INTERNAL_ERROR, INVALID_REQUEST, Failure
from tenantgate.mcp.core.protocol.messages import Notification, Request, read, strict_json
from tenantgate.mcp.core.protocol.remote import listed_tools, remote_request, response_in, seen_in
from tenantgate.mcp.core.protocol.results import dump, is_media, response, result_of, tool_error
from tenantgate.mcp.core.tool import ArgumentError, RemoteTool, Server, Tool, UpstreamRequest
from tenantgate.mcp.seen_tools import seen_tools
from tenantgate.mcp.service import Answer, RemoteCall, ToolCall, redacted, trace_of, unknown_tool
from tenantgate.policy.core.records import Blocked
from tenantgate.prices.core.cost import Worst
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.engine.config import EngineConfig
    from tenantgate.engine.core.tables import PackedLog, PackedRequest
    from tenantgate.engine.tenants import Tenant
    from tenantgate.kong import Host
    from tenantgate.limits.core.claims import Held
    from tenantgate.limits.service import Limits
    from tenantgate.mcp.core import offers
    from tenantgate.mcp.core.offers import Endpoint

__all__ = ["Tools", "is_tool_call"]

_STATE: Final = "mcp"
_RESULT: Final = "tenantgate_mcp_result"
"""In ``kong.ctx.shared``: the body for the client, or with a number after it its parts."""
_NOTE: Final = "tenantgate_mcp"
"""In ``kong.ctx.shared``: what the journal says of a call."""
_OUTCOME: Final = "x-tenantgate-outcome"
"""Of the loopback proxy: ``http_NNN``, the API's status, or a class of failure; a header that no API can set."""
_OPERATION: Final = "tenantgate_operation"
_TRACEPARENT: Final = "tenantgate_traceparent"
_LONGEST_NAME: Final = 64
_JSON: Final = "application/json"
_HIT: Final = {"tenantgate/cache_status": "Hit"}
_BLOCKED: Final = {
    Blocked.DISABLED: (403, "This tenant is disabled."),
    Blocked.STALE: (503, "The limits of this tenant are not known right now. Try again later."),
}
_BLOCKED_S: Final = "30"
_COUNTED_MS: Final = 60_000  # until which a call is counted that nobody has settled

_FAILED: Final = {
    "refused": "The egress policy doesn't permit the address of this tool's API.",
    "timeout": "The API took too long to answer. Whether it did what it was asked isn't known.",
    "reset": "The API broke off its answer. Whether it did what it was asked isn't known.",
    "too_large": "The API's answer is larger than this tool may give. Ask for less.",
}
_UNSEEN: Final = "Nobody knows yet whether this tool is what was approved. Ask for the list of tools first."
_UNREACHED: Final = "The API can't be reached right now. It wasn't asked."

_requests: Final = metrics.counter(
    "tenantgate_mcp_requests_total", "Requests to MCP servers.", ("method", "outcome")
)
_latency: Final = metrics.histogram(
    "kong_ai_mcp_latency_ms", "Time of a call of a tool, its API included.", ("tenant", "server", "tool_name")
)
_size: Final = metrics.counter(
    "kong_ai_mcp_response_body_size_bytes", "Bytes of results.", ("tenant", "server", "tool_name")
)
_errors: Final = metrics.counter(
    "kong_ai_mcp_error_total",
    "Calls of tools that ended with an error.",
    ("tenant", "server", "tool_name", "type"),
)


_UNBOUND: Final = RemoteTool(name="")


def is_tool_call(packed: PackedLog) -> bool:
    """Whether a request was one to an MCP endpoint, of which the engine keeps a state."""
    return _STATE in packed.state


class Tools:
    """The part of the engine that serves MCP."""

    def __init__(self, config: EngineConfig, limits: Limits) -> None:
        self._config, self._limits = config, limits
        self._replies = reply_cache(config.redis, config.encryption_key)
        self._seen = seen_tools(config.redis, config.encryption_key)

    # -- access -------------------------------------------------------------------------------------------

    def access(self, host: Host, packed: PackedRequest, tenant: Tenant | None) -> None:
        """Answer a request, or leave what is to be sent to an API."""
        exchange = Exchange(host, packed, route_name=f"mcp.{packed.tenant}")
        state: dict[str, Any] = {"method": "", "started": time.time()}
        upstream: dict[str, Any] | None = None
        with contextlib.suppress(Answered):
            upstream = self._decide(exchange, packed, tenant, state)
        if tenant is not None:
            if user := end_user_by_header(exchange, tenant):
                exchange.shared[END_USER] = user  # the journal bounds its length
            for stage in tenant.tool_stages():
                exchange.shared.update(getattr(stage.service, "shared", {}))
        if exchange.answered is not None:
            exchange.shared[_NOTE] = _note(state)
        made: dict[str, Any] = {
            "shared": {k: v for k, v in exchange.shared.items() if isinstance(v, str)},
            "state": {_STATE: json.dumps(state)},
            "keep_body": state["method"] == "tools/call",
        }
        # Kong knows no consumer of a token; and with the id the response phase needs no other table.
        made["caller"] = {"tenant": str(packed.tenant), "credential": packed.credential, "id": packed.id}
        if exchange.reply_headers:
            made["headers"] = exchange.reply_headers
        if upstream is not None:
            body = upstream.pop("body")
            if len(body) > MOST_SENT:
                upstream["body_parts"] = _send_parts(host, "tenantgate_body_", body)
            else:
                upstream["body"] = body
            made["mcp"] = upstream
            if tenant is not None and tenant.policy.egress is not None:
                made["egress"] = list(tenant.policy.egress)
        host.call("ctx.shared.set", DECISION, made)
        if exchange.answered is not None:
            host.answer(
                exchange.answered, exchange.answer_body, {**exchange.reply_headers, **exchange.answer_headers}
            )

    def _decide(
        self, exchange: Exchange, packed: PackedRequest, tenant: Tenant | None, state: dict[str, Any]
    ) -> dict[str, Any]:
        headers = exchange.headers()
        self._check_origin(exchange)
        self._check_tenant(exchange, tenant)
        if packed.method != "POST":
            self._fail(exchange, Failure(status=405, code=INVALID_REQUEST, message="Use POST."), Allow="POST")
        name = packed.captures.get("server", "")
        endpoint = None if tenant is None or tenant.mcp is None else tenant.mcp.endpoint(name)
        if tenant is None or tenant.mcp is None or endpoint is None:
            self._fail(
                exchange,
                Failure(status=404, code=INVALID_REQUEST, message="There is no such MCP server here."),
            )
        if not (headers.get("content-type") or "").lower().startswith(_JSON):
            text = "Content-Type must be application/json."
            self._fail(exchange, Failure(status=415, code=INVALID_REQUEST, message=text))
        given = {name: headers.all(name) for name in headers}
        request = read(packed.body, given)
        if isinstance(request, Failure):
            self._fail(exchange, request)
        if isinstance(request, Notification):
            _requests.inc(method="notification", outcome="accepted")
            exchange.answer(202)
        if (parent := trace_of(request).get("traceparent")) is not None:
            exchange.shared[_TRACEPARENT] = parent
        state |= {"method": request.method[:_LONGEST_NAME], "id": request.id, "modern": request.modern}
        state["server"] = name
        principals = principals_of(packed.credential, str(packed.tenant), packed.scopes)
        outcome = tenant.mcp.handle(endpoint, request, principals, given)
        if isinstance(outcome, Failure):
            self._fail(exchange, outcome)
        if isinstance(outcome, Answer):
            _requests.inc(method=request.method, outcome="answered")
            exchange.answer(200, response(request.id, outcome.result), {"Content-Type": _JSON})
        if isinstance(outcome, RemoteCall):
            state["principals"] = sorted(principals)  # for the list that the server will give
            return self._call_remote(exchange, tenant, outcome, state)
        return self._call(exchange, tenant, outcome, state)

    def _check_origin(self, exchange: Exchange) -> None:
        headers, settings = exchange.headers(), self._config.mcp
        host = headers.get("host") or ""
        origins = headers.all("origin")
        if is_allowed_host(host, settings.hosts) and all(
            is_allowed_origin(origin, host, settings.origins) for origin in origins
        ):
            return
        text = "Requests from this page, or by this name of the gateway, aren't accepted."
        self._fail(exchange, Failure(status=403, code=INVALID_REQUEST, message=text))

    def _check_tenant(self, exchange: Exchange, tenant: Tenant | None) -> None:
        if tenant is not None and tenant.policy.blocked is not None:
            status, text = _BLOCKED[tenant.policy.blocked]
            more = {"Retry-After": _BLOCKED_S} if status == 503 else {}
            self._fail(exchange, Failure(status=status, code=INVALID_REQUEST, message=text), **more)

    def _fail(self, exchange: Exchange, failure: Failure, **headers: str) -> NoReturn:
        _requests.inc(method="", outcome=str(failure.code))
        exchange.answer(failure.status, failure.body(), {"Content-Type": _JSON, **headers})

    def _call(
        self, exchange: Exchange, tenant: Tenant, made: ToolCall, state: dict[str, Any]
    ) -> dict[str, Any]:
        """What is to be sent to the API, or an answer that says why nothing is."""
        offer = made.offer
        assert tenant.mcp is not None  # noqa: S101 - it has said what to call
        caller = tenant.mcp.caller(offer)
        state |= {"server": offer.server.name, "tool": offer.tool.name}
        exchange.shared[_OPERATION] = "execute_tool"
        self._check_size(exchange, made, offer.tool, state)
        asked = caller.request(made.arguments)
        if isinstance(asked, ArgumentError):
            self._refuse(exchange, made, state, "arguments", _said(asked))
        with self._counted(exchange, tenant, made, state):
            arguments = self._guarded(exchange, tenant, made, state)
            if arguments is not made.arguments:
                asked = caller.masked_request(arguments)
                if isinstance(asked, ArgumentError):
                    self._refuse(exchange, made, state, "arguments", _said(asked))
            if offer.tool.cache_s:
                self._answer_again(exchange, tenant, made, arguments, state)
        idempotent = offer.tool.annotations.idempotent or offer.tool.annotations.read_only
        headers = [*asked.headers, *trace_of(made.request).items()]
        order = _order(offer.server, replace(asked, headers=tuple(headers)), again=idempotent)
        return {**order, "own": True} if offer.tool.model else order

    def _answer_again(
        self,
        exchange: Exchange,
        tenant: Tenant,
        made: ToolCall,
        arguments: Mapping[str, Any],
        state: dict[str, Any],
    ) -> None:
        """Answer with what the API has said to the same call before, if that is kept."""
        offer, request = made.offer, made.request
        key = self._replies.key(tenant.policy.tenant, offer.server, offer.tool, arguments)
        found = self._replies.find(tenant.policy.tenant, key)
        if found is None:
            state["cache_key"] = key
            exchange.reply_headers["X-Cache-Status"] = "Miss"
            return
        state["cached"] = True
        members = self._result(exchange, tenant, offer, _Reply(200, found.kind, found.body), state)
        body = _bounded(request, made.endpoint, members, offer.tool.max_result_bytes, state)
        # For the audit log, as the response phase leaves it there.
        _send_result(exchange.real, body, _note(state))
        _requests.inc(method="tools/call", outcome="cached")
        exchange.answer(200, body, {"Content-Type": _JSON, "X-Cache-Status": "Hit"})

    def _call_remote(
        self, exchange: Exchange, tenant: Tenant, made: RemoteCall, state: dict[str, Any]
    ) -> dict[str, Any]:
        """What is to be sent to a remote MCP server."""
        state |= {"server": made.server.name, "remote": True}
        params: dict[str, Any] = {}
        if made.tool is not None:
            state["tool"] = made.tool.name
            exchange.shared[_OPERATION] = "execute_tool"
            self._check_size(exchange, made, made.tool, state)
            self._check_pin(exchange, tenant, made, made.tool.name, state)
            with self._counted(exchange, tenant, made, state):
                arguments = self._guarded(exchange, tenant, made, state)
            params = {"name": made.tool.name, "arguments": arguments}
        elif (cursor := made.request.params.get("cursor")) is not None:
            params = {"cursor": cursor}
        asked = remote_request(made.server.revision, made.request.method, params, trace_of(made.request))
        return _order(made.server, asked, again=made.tool is None)

    def _check_size(
        self, exchange: Exchange, made: ToolCall | RemoteCall, tool: Tool | RemoteTool, state: dict[str, Any]
    ) -> None:
        most = tool.max_arguments_bytes
        if most and (size := len(dump(made.arguments))) > most:
            text = f"The arguments have {size} bytes; this tool takes {most} at most."
            self._refuse(exchange, made, state, "arguments", text)

    def _check_pin(
        self, exchange: Exchange, tenant: Tenant, made: RemoteCall, name: str, state: dict[str, Any]
    ) -> None:
        """Refuse a call of a pinned tool that isn't known to be what was approved."""
        pin = made.server.pins.get(name)
        last = None if pin is None else self._seen.last(tenant.policy.tenant, made.server.name, name)
        if pin is not None and last is None:
            self._refuse(exchange, made, state, "unseen", _UNSEEN)
        if last != pin:
            state["error"] = "changed"
            self._fail(exchange, unknown_tool(made.request))

    def _guarded(
        self, exchange: Exchange, tenant: Tenant, made: ToolCall | RemoteCall, state: dict[str, Any]
    ) -> Mapping[str, Any]:
        """The arguments as the guards let them pass."""
        arguments = made.arguments
        for stage in tenant.tool_stages():
            guard = getattr(stage.service, "arguments", None)
            if guard is None:
                continue
            checked = guard.check(exchange, tenant.policy.tenant, arguments, of="request")
            exchange.put_verdict(stage.name, checked.verdict)
            if checked.refused:
                self._refuse(exchange, made, state, "guard", checked.message)
            arguments = checked.value
        return arguments

    @contextlib.contextmanager
    def _counted(
        self, exchange: Exchange, tenant: Tenant, made: ToolCall | RemoteCall, state: dict[str, Any]
    ) -> Iterator[None]:
        """Count the call for what limits it. Its price is charged where it goes on, and not where it is refused."""
        tool = made.tool if isinstance(made, RemoteCall) else made.offer.tool
        settle = self._count(exchange, tenant, made, state)
        try:
            yield
        except Answered:
            price = 0 if tool is None else tool.price_nano
            size = state.get("asked_size", 0) + state.get("size", 0)
            state.pop("held", None)
            settle(End(cached=Billed(MCP, 0, 0, price, size)) if state.get("cached") else End())
            raise
        if "held" not in state:  # else it is settled in the log phase, when the result's size is known
            settle(End(billed=(Billed(MCP, 0, 0, 0 if tool is None else tool.price_nano),)))

    def _count(
        self, exchange: Exchange, tenant: Tenant, made: ToolCall | RemoteCall, state: dict[str, Any]
    ) -> Callable[[End], None]:
        """Count the call for what limits it, and hold its price; what is given settles that."""
        tool: Tool | RemoteTool | None
        if isinstance(made, RemoteCall):
            server, tool = made.server, made.tool
        else:
            server, tool = made.offer.server, made.offer.tool
        rules = () if tool is None else tenant.tool_rules(server.name, tool)
        if tool is None or not rules:
            return lambda _: None
        price = Worst(fixed=tool.price_nano, per_million=0)
        sized = any(rule.counted is Counted.BYTES for rule in rules)
        if sized:
            state["asked_size"] = len(dump(made.arguments))
        held: Sequence[Held] = claims_of(
            rules,
            Asked(
                model=f"{MCP}/{server.name}/{tool.name}",
                offers=(Offer(provider=MCP, worst=price, expected=price),),
                key=exchange.credential() or "",
                end_user=end_user_subject(end_user_by_header(exchange, tenant)),
                size=state.get("asked_size", 0),
                has_reply=False,
            ),
        )
        asked = Reservation(
            tenant=tenant.policy.tenant,
            id=exchange.identifier(),
            claims=tuple(h.claim for h in held),
            worst_tokens=0,
            expected_tokens=0,
            lifetime_ms=_COUNTED_MS + (server.timeout_ms if sized else 0),
        )
        try:
            held, answer = self._limits.reserve(asked, held)
        except NotCountedError:
            self._refuse(
                exchange, made, state, "limit", "This call can't be counted right now. Try again later."
            )
        if answer is None:
            return lambda _: None
        exchange.reply_headers.update(headers_of_limits(held, answer))
        if answer.refused is not None:
            # The limits know a tool as a model of its own.
            said = json.loads(refusal(held, answer))["error"]["message"].replace("this model", "this tool")
            self._refuse(exchange, made, state, "limit", said)
        cached = isinstance(tool, Tool) and tool.cache_s
        if not cached and all(h.claim.counted is Counted.REQUESTS for h in held):
            return lambda _: None  # a call is a call, whatever becomes of it
        started_ms = answer.now_ms
        if sized:
            written = [h.written(0, 0) for h in held]
            state["held"] = {"id": asked.id, "ms": started_ms, "claims": written, "nano": tool.price_nano}

        def settle(end: End) -> None:
            self._limits.settle(settlement(asked.tenant, asked.id, started_ms, held, end), held)

        return settle

    def _refuse(
        self, exchange: Exchange, made: ToolCall | RemoteCall, state: dict[str, Any], why: str, text: str
    ) -> NoReturn:
        """Answer a call with an error that the model reads (SEP-1303): it may do better the next time."""
        state["error"] = why
        request = made.request
        result = result_of(request, made.endpoint.identity, tool_error(text))
        _requests.inc(method="tools/call", outcome=why)
        exchange.answer(200, response(request.id, result), {"Content-Type": _JSON})

    # -- response -----------------------------------------------------------------------------------------

    def response(self, host: Host, packed: PackedLog, tenant: Tenant | None) -> None:
        """Turn the API's reply into the result of the call. Without a result the plugin answers 503."""
        state = _state_of(packed)
        endpoint = None if tenant is None or tenant.mcp is None else tenant.mcp.endpoint(state["server"])
        if tenant is None or endpoint is None:
            return
        offer = next((o for o in endpoint.offers if o.tool.name == state["tool"]), None)
        if offer is None and endpoint.remote is None:
            return
        exchange = Exchange(
            host, packed, shared=packed.shared, route_name=f"mcp.{packed.tenant}", complete=False
        )
        request = Request(id=state["id"], method=state["method"], params={}, modern=state["modern"])
        headers = host.response_headers()
        outcome = headers.get(_OUTCOME) or "reset"
        members: Mapping[str, Any] = {}
        if not outcome.startswith("http_"):
            state["error"] = outcome
            if state["tool"]:
                members = tool_error(_FAILED.get(outcome, _UNREACHED))
        else:
            reply = _Reply.of(host, outcome, headers.get("content-type") or "")
            if offer is not None:
                members = self._result(exchange, tenant, offer, reply, state)
            elif endpoint.remote is not None:
                members = self._remote_result(exchange, tenant, endpoint, reply, state)
        if not members:
            _send_result(host, _no_list(request).body(), _note(state))
            return
        tool = endpoint.remote.remote_tool(state["tool"]) if offer is None and endpoint.remote else None
        most = 0 if not state["tool"] else (offer.tool if offer else tool or _UNBOUND).max_result_bytes
        body = _bounded(request, endpoint, members, most, state)
        _send_result(host, body, _note(state))
        if offer is not None and "cache_key" in state and outcome == "http_200":
            kept = StoredReply(reply.kind, reply.body)
            self._replies.keep(tenant.policy.tenant, state["cache_key"], kept, offer.tool.cache_s)

    def _result(
        self, exchange: Exchange, tenant: Tenant, offer: offers.Offer, reply: _Reply, state: dict[str, Any]
    ) -> Mapping[str, Any]:
        """The result that the API's reply is, as the guards let it pass."""
        assert tenant.mcp is not None  # noqa: S101 - the offer is of its
        found = tenant.mcp.reader(offer).result(reply.status, reply.kind, reply.body)
        content = [dict(part) for part in found.content]
        if found.is_error:
            state["error"] = f"http_{reply.status}"
            content = [{**part, "text": redacted(part["text"])} for part in content]
        made: dict[str, Any] = {"content": content, "isError": found.is_error}
        if found.structured is not None:
            made["structuredContent"] = found.structured
            checked = (
                self._checked_once(exchange, tenant, made, state)
                if _says_the_same(content, found.structured)
                else self._checked(exchange, tenant, made, state)
            )
            structured = checked.get("structuredContent")
            if structured is None or structured == found.structured:
                return checked
            return {**checked, "structuredContent": tenant.mcp.reader(offer).refitted(structured)}
        return self._checked(exchange, tenant, made, state)

    def _checked_once(
        self, exchange: Exchange, tenant: Tenant, made: dict[str, Any], state: dict[str, Any]
    ) -> Mapping[str, Any]:
        """As `_checked`, for a result whose text is its structured content once more."""
        alone = {"content": [], "structuredContent": made["structuredContent"]}
        checked = self._checked(exchange, tenant, alone, state)
        if checked.get("isError") is True:
            return checked
        structured = checked["structuredContent"]
        if structured == made["structuredContent"]:
            return made
        text = {"type": "text", "text": dump(structured).decode()}
        return {**made, "content": [text], "structuredContent": structured}

    def _remote_result(
        self, exchange: Exchange, tenant: Tenant, endpoint: Endpoint, reply: _Reply, state: dict[str, Any]
    ) -> Mapping[str, Any]:
        """The result that a remote server's reply is, as the guards let it pass; empty where there is no list."""
        server = endpoint.remote
        assert server is not None  # noqa: S101 - it has answered
        found = response_in(reply.body, reply.kind)
        result = None if found is None or reply.status >= 300 else found.get("result")
        if not state["tool"]:
            if result is None:
                state["error"] = f"http_{reply.status}"
                return {}

            self._seen.note(tenant.policy.tenant, server.name, seen_in(server, result))
            principals = frozenset(state.get("principals", ()))

            def passes(tool: Mapping[str, Any]) -> bool:
                if endpoint.remote_tool(tool["name"], principals) is None:
                    return False
                return not self._checked(exchange, tenant, {"content": [tool]}, {}).get("isError")

            more = {k: v for k in ("nextCursor",) if isinstance(v := result.get(k), str)}
            hints = {"ttlMs": 60_000, "cacheScope": "private"} if state["modern"] else {}
            return {"tools": listed_tools(server, result, passes), **more, **hints}
        if result is None or not _is_content(result.get("content")):
            state["error"] = f"http_{reply.status}"
            said = (found or {}).get("error", {}).get("message", "")
            text = "The MCP server of this tool gave no result."
            return self._checked(
                exchange, tenant, tool_error(f"{text} {redacted(str(said))[:500]}".strip()), state
            )
        made = {k: v for k in ("content", "structuredContent") if (v := result.get(k)) is not None}
        made["isError"] = result.get("isError") is True
        if made["isError"]:
            state["error"] = "tool"
        return self._checked(exchange, tenant, made, state)

    def _checked(
        self, exchange: Exchange, tenant: Tenant, made: dict[str, Any], state: dict[str, Any]
    ) -> dict[str, Any]:
        """The result as the guards let it pass: all of it but the data of pictures and sounds."""
        media = {i: part["data"] for i, part in enumerate(made["content"]) if is_media(part)}
        value: Any = {
            **made,
            "content": [
                {k: v for k, v in part.items() if i not in media or k != "data"}
                for i, part in enumerate(made["content"])
            ],
        }
        for stage in tenant.tool_stages():
            guard = getattr(stage.service, "results", None)
            if guard is None:
                continue
            checked = guard.check(exchange, tenant.policy.tenant, value, of="reply")
            if checked.verdict.get("action", "pass") != "pass":
                exchange.put_verdict("tenant-response-guardrails", checked.verdict)
            if checked.refused:
                state["error"] = "guard"
                return tool_error(checked.message)
            value = checked.value
        content = [
            {**part, "data": media[i]} if i in media else part for i, part in enumerate(value["content"])
        ]
        return {**value, "content": content}

    # -- log ----------------------------------------------------------------------------------------------

    def log(self, host: Host, packed: PackedLog, tenant: Tenant | None) -> None:
        """Count a call, and hand its content to the audit log."""
        state = _state_of(packed)
        if not state.get("tool"):
            return
        note = packed.shared.get(_NOTE)
        found = json.loads(note) if isinstance(note, str) and note else {}
        if tenant is not None:
            self._record(host, packed, tenant, state)
        self._settle_size(packed, state, found.get("size", 0))
        labels = {"tenant": packed.tenant.slug, "server": state["server"], "tool_name": state["tool"]}
        _latency.observe((time.time() - state["started"]) * 1000, **labels)
        _size.inc(found.get("size", 0), **labels)
        if (why := found.get("error")) is not None:
            _errors.inc(**labels, type=str(why))
        if packed.source == "service":
            _requests.inc(method="tools/call", outcome="answered" if why is None else str(why))

    def _settle_size(self, packed: PackedLog, state: Mapping[str, Any], size: int) -> None:
        """Settle a call of which bytes are counted; one that the engine has answered itself is settled already."""
        if (given := state.get("held")) is None:
            return
        held = tuple(h for values in given["claims"] if (h := read_held(values)) is not None)
        billed = Billed(MCP, 0, 0, given["nano"], state.get("asked_size", 0) + size)
        end = End(billed=(billed,)) if packed.source == "service" else End()
        self._limits.settle(settlement(packed.tenant, given["id"], given["ms"], held, end), held)

    def _record(self, host: Host, packed: PackedLog, tenant: Tenant, state: Mapping[str, Any]) -> None:
        """Give the audit log what was asked and answered, as messages of a chat."""
        for stage in tenant.tool_stages():
            if (record := getattr(stage.service, "tool_call", None)) is None:
                continue
            try:
                params = json.loads(packed.body or b"{}").get("params") or {}
            except ValueError:
                params = {}
            function = {"name": state["tool"], "arguments": json.dumps(params.get("arguments") or {})}
            call = {"id": str(state["id"]), "type": "function", "function": function}
            asked = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
            record(
                host, packed.id, json.dumps(asked).encode(), _answered(host.call("ctx.shared.get", _RESULT))
            )


def _answered(table: Any) -> bytes | None:
    """The result in the table that the response phase has left, as a chat's reply; None where there is none."""
    body = table.get("body") if isinstance(table, Mapping) else None
    if not isinstance(body, str | bytes):
        return None
    try:
        content = json.loads(body)["result"]["content"]
    except (ValueError, KeyError, TypeError):
        return None
    text = "\n".join(part["text"] for part in content if "text" in part)
    return json.dumps({"choices": [{"index": 0, "message": {"role": "tool", "content": text}}]}).encode()


@dataclass(frozen=True, slots=True)
class _Reply:
    """What an API or a remote server has answered."""

    status: int
    kind: str
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, host: Host, outcome: str, kind: str) -> _Reply:
        raw = host.call("service.response.get_raw_body")
        raw = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else bytes(raw or b"")
        return cls(int(outcome[5:]), kind, raw)


def _is_content(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _order(server: Server, asked: UpstreamRequest, *, again: bool) -> dict[str, Any]:
    """What tenantgate-mcp is to send; `again`: whether it may be sent a second time."""
    headers: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in asked.headers]
    # Only these may be vault references: what comes from a client's arguments is never resolved.
    headers += [{"name": name, "value": value, "reference": True} for name, value in server.headers.items()]
    order: dict[str, Any] = {
        "method": asked.method,
        "url": server.upstream + asked.url,
        "headers": headers,
        "body": asked.body,
        "timeout_ms": server.timeout_ms,
        "retries": server.retries if again else 0,
        "most": server.max_response_bytes,
        "name": server.name,
    }
    if server.credential is not None:
        order["credential"] = {
            "reference": server.credential.reference,
            "name": server.credential.name,
            "location": server.credential.location,
            "prefix": server.credential.prefix,
        }
    return order


def _bounded(
    request: Request, endpoint: Endpoint, members: Mapping[str, Any], most: int, state: dict[str, Any]
) -> bytes:
    """The body of a result; an error in its place where that has more bytes than `most`, if that isn't 0."""
    meta = _HIT if state.get("cached") else None
    body = response(request.id, result_of(request, endpoint.identity, members, meta))
    if most and len(body) > most:
        state["error"] = "too_large"
        members = tool_error(f"The result is larger than {most} bytes. Ask for less.")
        body = response(request.id, result_of(request, endpoint.identity, members, meta))
    state["size"] = len(body)
    return body


def _no_list(request: Request) -> Failure:
    return Failure(
        status=200, code=INTERNAL_ERROR, message="The MCP server gave no list of its tools.", id=request.id
    )


def _says_the_same(content: Sequence[Mapping[str, Any]], structured: Any) -> bool:
    """Whether a result's only text is its structured content as JSON, and nothing beside."""
    if len(content) != 1 or content[0].get("type") != "text":
        return False
    try:
        return bool(strict_json(content[0]["text"].encode("utf-8", "surrogatepass")) == structured)
    except ValueError:
        return False


def _said(error: ArgumentError) -> str:
    return f"{error.field}: {error.message}" if error.field else error.message


def _note(state: Mapping[str, Any]) -> str:
    names = ("method", "server", "tool", "error", "size")
    known = {name: state[name] for name in names if state.get(name)}
    return json.dumps(known)


def _state_of(packed: PackedLog) -> dict[str, Any]:
    text = packed.state[_STATE]
    found: dict[str, Any] = json.loads(text)
    return {"server": "", "tool": "", "id": None, "modern": False, "started": 0.0, **found}


def _send_parts(host: Host, name: str, body: bytes) -> int:
    count = 0
    for at in range(0, len(body), MOST_SENT):
        count += 1
        host.call("ctx.shared.set", f"{name}{count}", body[at : at + MOST_SENT])
    return count


def _send_result(host: Host, body: bytes, note: str) -> None:
    made: dict[str, Any] = {"note": note}
    if len(body) > MOST_SENT:
        made["parts"] = _send_parts(host, _RESULT, body)
    else:
        made["body"] = body
    host.call("ctx.shared.set", _RESULT, made)
