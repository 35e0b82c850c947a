"""ai-proxy (`kong/llm/plugin/base.lua` and its shared filters), for chat routes.

The order of steps, the texts of errors and the layout of the log are Kong's; so are the oddities that a plugin
behind it can see, such as a token estimate for streams and a log payload that repeats a buffered stream's text.
"""

from __future__ import annotations

import copy
import gzip
import math
import re
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from tenantgate.devhost import lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange, Exited, Held, Phase
from tenantgate.devhost.lua_state import LuaError, LuaState
from tenantgate.devhost.pdk_event import Event as PdkCall
from tenantgate.devhost.pdk_event import PdkError
from tenantgate.devhost.stock.ai_drivers import CHAT, DRIVERS, FormatError
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.devhost.stock.lua_drivers import LuaDrivers
from tenantgate.devhost.stock.sse import SUPPORTED_TYPES, TERMINATOR, Event, Frames

__all__ = ["AiProxy"]

_GZIP: Final = re.compile(r"(?<![A-Za-z])gzip(?![A-Za-z])")
_NOT_SET: Final = b'data: {"error": true, "message": "empty or unsupported transformer response"}'
_PRESERVE: Final = "preserve"
_FIELD: Final = re.compile(rb'name="([^"]+)"\r\n\r\n(.*?)\r\n--', re.DOTALL)
_KEY: Final = "ai-proxy"
_BALANCE: Final = "ai-proxy-advanced-balance"


@dataclass(slots=True)
class _State:
    """What the filters keep of one request (`kong/llm/plugin/ctx.lua`)."""

    accept_gzip: bool = False
    stream: bool = False
    preserve: bool = False
    """Whether request and reply are left as they are, but for the model's name."""
    parsed: Any = lua.MISSING
    """The client's body, which stays as it came."""
    request: Any = lua.MISSING
    """The body that normalize-request goes by."""
    provider: str = "UNSPECIFIED"
    model_name: str = "UNSPECIFIED"
    model: dict[str, Any] = field(default_factory=dict)
    started: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    response: bytes | None = None
    sent: bool = False
    serialized: bool = False
    stream_type: str | None = None
    frames: Frames = field(default_factory=Frames)
    events: list[Event] | None = None
    ready: bool = False
    """Whether the events are the client's chunks already."""
    driver_state: dict[str, Any] = field(default_factory=dict)
    text: bytearray = field(default_factory=bytearray)

    def metric(self, name: str) -> float:
        return self.metrics.get(name, 0)

    def add_counts(self, prompt: float, completion: float) -> None:
        for name, count in (("prompt", prompt), ("completion", completion)):
            key = f"llm_{name}_tokens_count"
            self.metrics[key] = self.metric(key) + count


def _state(x: Exchange) -> _State:
    state: _State = x.private.setdefault(_KEY, {}).setdefault("state", _State())
    return state


def _config(x: Exchange, conf: PluginConfig) -> dict[str, Any]:
    """The configuration for this request: the target that another plugin has selected (normalize-request.lua)."""
    spaces = x.ctx.get("ai_namespaced_ctx")
    chosen = spaces.plain().get(_BALANCE, {}) if isinstance(spaces, Held) else {}
    return chosen.get("selected_target") or conf.config


class AiProxy(StockPlugin):
    """The filters in the order in which Kong runs them."""

    name = "ai-proxy"

    def __init__(self, state: LuaState | None = None) -> None:
        self._lua = None if state is None else LuaDrivers(state)
        if state is not None:
            state.provide(
                {
                    "ai.request_body_table": lambda e: _state(e.x).parsed,
                    "ai.use_request_body_table": _use_request,
                    "ai.normalize": self._normalize_for_lua,
                    "ai.configure": lambda e: _configuration(_target(e.x), _state(e.x)),
                    "ai.stream_mode": lambda e: _state(e.x).stream,
                    "ai.preserve_mode": lambda e: _state(e.x).preserve,
                    "ai.response_body": _response_body,
                    "ai.use_response_body": _use_response,
                }
            )

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """Parse, check, translate, and point the request at the provider."""
        state, config = _state(x), _config(x, conf)
        x.ctx["ai_llm_metrics"] = state.metrics
        x.body_read = True
        self._parse_request(x, config, state)
        if x.lua is not None:
            # It registers a callback of its own, which would ask the same target again (kong/llm/plugin/base.lua).
            x.lua[b"tables"][b"balancer_data"][b"retry_callback"] = None
        if not state.stream:
            x.ctx["buffered_proxying"] = True
        if (provider := config["model"]["provider"]) not in DRIVERS:
            raise PdkError(
                f"the embedded host doesn't translate for the provider {provider}; use a real Kong"
            )
        body = self._normalize_request(x, config, state)
        if config.get("route_type", CHAT) != _PRESERVE:
            x.body, x.body_changed = lua.encode(body), True
            x.headers["Content-Type"] = "application/json"
            x.headers["Content-Length"] = str(len(x.body))
        made = _configuration(config, state)
        if x.upstream is None:
            raise TypeError("no upstream")
        x.upstream.scheme, x.upstream.host, x.upstream.port, x.upstream.path = (
            made[name] for name in ("scheme", "host", "port", "path")
        )
        x.upstream.host_header = x.upstream.host  # set_target keeps the port out of it
        for name, value in made["headers"].items():
            x.headers[name] = value
        _credentials(x, config.get("auth") or {})

    def _normalize_for_lua(self, e: PdkCall) -> Any:
        """In the balancer phase Kong passes over what it would refuse (`bail` in normalize-request.lua)."""
        try:
            return self._normalize_request(e.x, _target(e.x), _state(e.x))
        except Exited:
            if e.x.phase is Phase.BALANCER:
                return lua.MISSING
            raise

    def _parse_request(self, x: Exchange, config: dict[str, Any], state: _State) -> None:
        state.accept_gzip = bool(_GZIP.search(x.headers.get("Accept-Encoding", "")))
        kind = x.headers.get("Content-Type", "application/json").lower().partition(";")[0]
        too_big = x.body_on_disk and len(x.body) > config["max_request_body_size"]
        value = lua.decode(x.body) if kind.startswith("application/json") and not too_big else lua.MISSING
        if kind.startswith("multipart/form-data"):
            value = _form(x.body)
        if not isinstance(value, (dict, list)):
            return
        state.parsed = state.request = value
        if isinstance(model := lua.get(value, "model"), str):
            state.model_name = model
        state.stream = lua.truthy(lua.get(value, "stream"))
        state.started = time.time()

    def _normalize_request(self, x: Exchange, config: dict[str, Any], state: _State) -> dict[str, Any]:
        """The body for the provider."""
        # A plugin that goes on to another target forgets what was noted of the last one.
        if x.ctx.get("ai_llm_metrics") is None:
            state.metrics = {}
            x.ctx["ai_llm_metrics"] = state.metrics
        given = state.request if isinstance(state.request, dict) else {}
        request = {k: v if k == "messages" else copy.deepcopy(v) for k, v in given.items()}
        messages, prompt = request.get("messages"), request.get("prompt")
        route = config.get("route_type", CHAT)
        state.preserve = route == _PRESERVE
        if not state.preserve and not lua.is_array(messages) and not isinstance(prompt, str):
            _bail(x, 400, "request body doesn't contain valid prompts")
        model = {**config["model"]}
        asked = request.get("model")
        if not model.get("name") and isinstance(asked, str):
            model["name"] = asked
        if isinstance(asked, str) and asked and asked != model["name"]:
            _bail(x, 400, "cannot use own model - must be: " + model["name"])
        if not model.get("name"):
            _bail(x, 400, "model parameter not found in request, nor in gateway configuration")
        state.model, state.provider, state.model_name = model, model["provider"], model["name"]
        if isinstance(prompt, str) and route == CHAT:
            if lua.is_array(messages):
                _bail(x, 400, "request matches multiple LLM request formats")
            _bail(
                x, 400, "[llm/v1/completions] message format is not compatible with [llm/v1/chat] route type"
            )
        if lua.truthy(request.get("stream", lua.MISSING)) or config["response_streaming"] == "always":
            request["stream"] = True
            if config["response_streaming"] == "deny":
                _bail(x, 400, "response streaming is not enabled for this LLM")
            state.stream = True
        else:
            x.ctx["buffered_proxying"] = True
            state.stream = False
        return request if state.preserve else self._translated(x, state, request)

    def _translated(self, x: Exchange, state: _State, request: dict[str, Any]) -> dict[str, Any]:
        driver = DRIVERS[state.provider]
        try:
            if self._lua and self._lua.serves(state.model):
                body = self._lua.to_format(x, request, state.model)
            else:
                body = driver.to_format(request, state.model)
        except FormatError as error:
            _bail(x, 400, str(error) or f"error transforming to {state.provider}://llm/v1/chat")
        except (TypeError, LookupError, AttributeError):
            _bail(x, 400, f"error transforming to {state.provider}://llm/v1/chat")
        if not driver.counts_in_stream:
            messages = request.get("messages") or [{"content": request.get("prompt")}]
            estimate = _prompt_words(messages) * (1.8 if state.stream else 1.0)
            state.metrics["llm_prompt_tokens_count"] = math.floor(estimate + 0.5)
        return body

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Parse and translate a plain reply, whose status may still change."""
        state, config = _state(x), _config(x, conf)
        served = x.source == "service"
        if served and state.stream:
            state.stream_type = x.upstream_headers.get("Content-Type")
            # nginx keeps the charset that the upstream's type had, but Kong's buffering loses it.
            kept = None if x.buffered_headers is not None else state.stream_type
            charset = re.search(r";\s*charset=[^;]+", kept or "")
            _set(x, "Content-Type", "text/event-stream" + (charset[0] if charset else ""))
        elif served and state.accept_gzip:
            x.out.popall("Content-Length", None)
            _set(x, "Content-Encoding", "gzip")
        else:
            x.out.popall("Content-Encoding", None)
        if state.started is not None:
            state.metrics["llm_e2e_latency"] = math.floor((time.time() - state.started) * 1000)
        if state.stream or not served:
            self._model_header(x, config, state, served=served)
            if _ok(x):
                self._cost(config, state)
            return
        if x.buffered_headers is None:
            # Where a client asked for a WebSocket (kong/pdk/service/response.lua, get_raw_body).
            raise LuaError("service body is only available with buffered proxying")
        state.response = _inflated(x.buffered_body or b"", x.upstream_headers)
        _note_usage(state, state.response)
        self._model_header(x, config, state, served=served)
        if _ok(x) and not state.preserve:
            self._normalize_response(x, state)
            self._cost(config, state)

    def _model_header(self, x: Exchange, config: dict[str, Any], state: _State, *, served: bool) -> None:
        if served and _ok(x) and config["model_name_header"]:
            _set(x, "X-Kong-LLM-Model", f"{state.provider}/{state.model_name}")

    def _normalize_response(self, x: Exchange, state: _State) -> None:
        if state.provider in ("openai", "gemini"):
            x.out.popall("Set-Cookie", None)
        try:
            if self._lua and self._lua.serves(state.model):
                state.response = self._lua.from_format(x, state.response or b"", state.model)
            else:
                state.response = DRIVERS[state.provider].from_format(state.response or b"", state.model)
        except (FormatError, TypeError, LookupError, AttributeError) as error:
            where = f"transformation failed from type {state.provider}://llm/v1/chat: "
            x.status = 500
            state.response = lua.encode({"error": {"message": where + str(error)}})
        _note_usage(state, state.response)
        if not state.accept_gzip:
            _set(x, "Content-Length", str(len(state.response)))

    def _cost(self, config: dict[str, Any], state: _State) -> None:
        options = config["model"].get("options") or {}
        cost = 0.0
        if options.get("input_cost") and options.get("output_cost"):
            cost = (
                state.metric("llm_prompt_tokens_count") * options["input_cost"]
                + state.metric("llm_completion_tokens_count") * options["output_cost"]
            ) / 1_000_000
        state.metrics["llm_usage_cost"] = cost

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """Send the translated reply, or translate a stream's events one by one."""
        state = _state(x)
        if not state.stream and state.response is not None and not state.sent:
            self._serialize(x, conf, state)
            state.sent = True
            return gzip.compress(state.response) if state.accept_gzip else state.response
        if state.sent:
            return b""
        if _ok(x) and not state.preserve:
            chunk = self._stream_chunk(x, conf, state, chunk, last=last)
        if last:
            self._serialize(x, conf, state)
        return chunk

    def _stream_chunk(
        self, x: Exchange, conf: PluginConfig, state: _State, chunk: bytes, *, last: bool
    ) -> bytes:
        kind = state.stream_type.partition(";")[0] if state.stream_type else None
        if chunk and (kind is None or kind in SUPPORTED_TYPES):
            piece = _inflated(chunk, x.upstream_headers)
            served = self._lua is not None and self._lua.serves(state.model)
            chunks = self._lua.chunks(x, piece, kind) if self._lua and served else None
            state.ready = chunks is not None
            state.events = (
                state.frames.feed(piece, kind) if chunks is None else [Event(data=c) for c in chunks]
            )
        if state.events is None:
            return _NOT_SET if chunk else b""
        config = _config(x, conf)
        logging = config["logging"]
        out = bytearray()
        finish: Any = lua.MISSING
        # The last call has no chunk of its own: Kong goes through the events of the one before once more.
        for event in state.events:
            if state.ready:
                data, counts, event.data = event.data, None, None
            else:
                data, counts = DRIVERS[state.provider].stream_event(event, state.model, state.driver_state)
            if data is not None:
                out += b"data: " + data + (b"" if data == TERMINATOR else b"\n\n")
                text, reason = _delta(data)
                finish = reason if reason is not lua.MISSING else finish
                if logging["log_payloads"]:
                    state.text += text
            if counts and logging["log_statistics"]:
                if state.provider == "gemini":
                    state.metrics["llm_prompt_tokens_count"] = counts["prompt"]
                    state.metrics["llm_completion_tokens_count"] = counts["completion"]
                else:
                    state.add_counts(counts["prompt"], counts["completion"])
        if not last:
            return bytes(out)
        self._finish_stream(config, state, finish)
        return b""

    def _finish_stream(self, config: dict[str, Any], state: _State, finish: Any) -> None:
        logging = config["logging"]
        if logging["log_statistics"] and not state.metric("llm_completion_tokens_count"):
            tokens = math.ceil(len(bytes(state.text).strip()) / 4)
            state.metrics["llm_completion_tokens_count"] = tokens
        self._cost(config, state)
        text: Any = lua.from_bytes(bytes(state.text)) if logging["log_payloads"] else lua.MISSING
        prompt = state.metric("llm_prompt_tokens_count")
        completion = state.metric("llm_completion_tokens_count")
        message = {"role": "assistant", "content": text}
        choice = {"finish_reason": finish, "index": 0, "logprobs": None, "message": message}
        state.response = lua.encode(
            {
                "choices": [choice],
                "object": "chat.completion",
                "response": text if text is not lua.MISSING else False,
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                },
            }
        )

    def _serialize(self, x: Exchange, conf: PluginConfig, state: _State) -> None:
        logging = conf.config["logging"]  # its own, not its target's (serialize-analytics.lua)
        if state.serialized or not logging["log_statistics"]:
            return
        state.serialized = True
        x.ctx["ai_llm_metrics"] = state.metrics
        answered = lua.decode(state.response) if state.response is not None else lua.MISSING
        model = answered.get("model") if isinstance(answered, dict) else None
        prompt = state.metric("llm_prompt_tokens_count")
        completion = state.metric("llm_completion_tokens_count")
        latency = state.metric("llm_e2e_latency")
        meta = {
            "plugin_id": conf.id,
            "provider_name": state.provider,
            "request_model": state.model_name,
            "response_model": model or state.model_name,
            "llm_latency": latency,
        }
        usage = {
            "time_per_token": latency / completion if completion > 0 else 0,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "cost": state.metric("llm_usage_cost"),
        }
        x.serialize_values += [("ai.proxy.meta", meta, "set"), ("ai.proxy.usage", usage, "set")]
        if logging["log_payloads"]:
            request = lua.from_bytes(x.body) if x.body and x.body_read and not x.body_on_disk else None
            response = None if state.response is None else lua.from_bytes(state.response)
            x.serialize_values += [
                ("ai.proxy.payload.request", request, "set"),
                ("ai.proxy.payload.response", response, "set"),
            ]


def _form(body: bytes) -> dict[str, Any]:
    """The texts of a form (kong/pdk/request.lua, get_body)."""
    return {lua.from_bytes(name): lua.from_bytes(value) for name, value in _FIELD.findall(body)}


def _target(x: Exchange) -> dict[str, Any]:
    spaces = x.ctx.get("ai_namespaced_ctx")
    chosen = spaces.plain().get(_BALANCE, {}) if isinstance(spaces, Held) else {}
    if not chosen.get("selected_target"):
        raise PdkError("the embedded host runs normalize-request for a selected_target only")
    return dict(chosen["selected_target"])


def _use_request(e: PdkCall, body: Any) -> Any:
    _state(e.x).request = body
    return lua.MISSING


def _response_body(e: PdkCall) -> Any:
    body = _state(e.x).response
    return lua.MISSING if body is None else lua.from_bytes(body)


def _use_response(e: PdkCall, body: Any) -> Any:
    _state(e.x).response = lua.to_bytes(body)
    return lua.MISSING


_ENCODINGS: Final = {"openai": "gzip, identity", "gemini": "identity"}


def _configuration(config: dict[str, Any], state: _State) -> dict[str, Any]:
    """Where the provider is, and the headers that its driver sets (`configure_request`)."""
    url = DRIVERS[state.provider].url(state.model, stream=state.stream)
    if config.get("route_type", CHAT) == _PRESERVE and not (state.model.get("options") or {}).get(
        "upstream_path"
    ):
        raise PdkError("the embedded host needs an upstream_path for route_type preserve")
    headers = {"Accept-Encoding": _ENCODINGS[state.provider]} if state.provider in _ENCODINGS else {}
    if state.provider == "anthropic":
        headers["anthropic-version"] = state.model["options"]["anthropic_version"]
    return {
        "scheme": url.scheme,
        "host": url.hostname or "",
        "port": url.port or 443,
        "path": "/" + url.path.lstrip("/"),
        "headers": headers,
        "auth": {k: v for k, v in (config.get("auth") or {}).items() if v is not None},
    }


def _bail(x: Exchange, status: int, message: str) -> NoReturn:
    x.exit(status, {"error": {"message": message}})


def _set(x: Exchange, name: str, value: str) -> None:
    x.out.popall(name, None)
    x.out[name] = value


def _ok(x: Exchange) -> bool:
    # Of several tries nginx lists all statuses, and Kong takes the last (kong/pdk/service/response.lua, get_status).
    return x.source == "service" and str(x.upstream_status)[-3:] == "200"


def _credentials(x: Exchange, auth: dict[str, Any]) -> None:
    name, value = auth.get("header_name"), auth.get("header_value")
    if name and value and (name not in x.headers or not auth["allow_override"]):
        x.headers.popall(name, None)
        x.headers[name] = value
    name, value = auth.get("param_name"), auth.get("param_value")
    if name and value and (name not in x.query() or not auth["allow_override"]):
        pairs = [
            (n, v) for n, vs in x.query().items() if n != name for v in (vs if isinstance(vs, list) else [vs])
        ]
        quote = urllib.parse.quote
        parts = [quote(n, safe="") + ("" if v is True else "=" + quote(v, safe="")) for n, v in pairs]
        x.args = "&".join(sorted([*parts, f"{quote(name, safe='')}={quote(value, safe='')}"]))


def _prompt_words(messages: list[Any]) -> int:
    """`calculate_cost`: the words of all texts; a Lua error where a message can't be indexed."""
    count = 0
    for message in messages:
        content = lua.get(message, "content")
        if isinstance(content, str):
            count += lua.words(content)
        elif isinstance(content, list):
            for part in content:
                if lua.get(part, "type") == "text" and lua.truthy(text := lua.get(part, "text")):
                    if not isinstance(text, str):
                        raise TypeError("attempt to call method 'gmatch'")
                    count += lua.words(text)
    return count


def _inflated(body: bytes, headers: Any) -> bytes:
    if headers.get("Content-Encoding") != "gzip" or not body:
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError):
        return body


def _note_usage(state: _State, body: bytes) -> None:
    reply = lua.decode(body)
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if isinstance(usage, dict):
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(usage.get(name), (int, float)):
                state.metrics[f"llm_{name}_count"] = usage[name]


def _delta(data: bytes) -> tuple[bytes, Any]:
    """(text, finish_reason or MISSING) of one chunk."""
    chunk = lua.decode(data) if data != TERMINATOR else lua.MISSING
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return b"", lua.MISSING
    delta = first.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    text = text if text is not None else first.get("text")
    return lua.to_bytes(text) if isinstance(text, str) else b"", first.get("finish_reason", lua.MISSING)
