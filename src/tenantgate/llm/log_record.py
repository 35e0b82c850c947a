"""Kong's log record of a request: the typed reader of it, for log phases and for the lines that ``file-log`` writes.

The record is JSON, and parts of it come from clients and providers, so any member may be missing or of another type.
Unknown means absent: a text is then empty, a number None, a mapping or tuple empty.

Source: ``kong.log.serialize`` in https://github.com/Kong/kong/blob/3.9.3/kong/pdk/log.lua; ``ai.proxy`` comes from
ai-proxy with ``log_statistics`` (meta, usage) and ``log_payloads`` (payload),
https://github.com/Kong/kong/blob/3.9.3/kong/llm/plugin/shared-filters/serialize-analytics.lua
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.usage import TOKEN_NAMES, Tokens

__all__ = ["LogRecord"]

_LATENCIES: Final = ("kong", "proxy", "request", "receive")
_UNSPECIFIED: Final = "UNSPECIFIED"  # ai-proxy's names where a plugin before it answered


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One request as Kong logs it. Members are read when they are asked for: a log phase needs few of many.

    Attributes:
        values: the record, a JSON object; holds the prompt and the reply where payloads are logged.
    """

    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Any) -> LogRecord | None:
        """The record in a JSON value; None for one that isn't a request's."""
        return cls(value) if isinstance(value, dict) and isinstance(value.get("request"), dict) else None

    # -- request ------------------------------------------------------------------------------------------

    @property
    def request_id(self) -> str:
        """Kong's id of the request: 32 hexadecimal digits."""
        return _text(self.values.get("request"), "id")

    @property
    def correlation_id(self) -> str:
        """The correlation id, which a client may have chosen."""
        return _text(self.values, "correlation_id")

    @property
    def trace_id(self) -> str:
        """The trace id in the W3C's format: 32 hexadecimal digits."""
        found = self.values.get("trace_id")
        return _text(found, "w3c") if isinstance(found, dict) else _text(self.values, "trace_id")

    @property
    def started_ms(self) -> int | None:
        """Arrival of the request, in Unix milliseconds."""
        return _whole(self.values, "started_at")

    @property
    def method(self) -> str:
        """HTTP method of the request."""
        return _text(self.values.get("request"), "method")

    @property
    def request_size(self) -> int | None:
        """Bytes of the request, head included."""
        return _whole(self.values.get("request"), "size")

    def request_header(self, name: str) -> tuple[str, ...]:
        """All values of a request header; `name` is in lower case."""
        return _texts(self.values.get("request"), name)

    @property
    def client_ip(self) -> str:
        """Address of the client."""
        return _text(self.values, "client_ip")

    @property
    def consumer_id(self) -> str:
        """Kong's id of the consumer."""
        return _text(self.values.get("consumer"), "id")

    @property
    def consumer_name(self) -> str:
        """User name of the consumer."""
        return _text(self.values.get("consumer"), "username")

    @property
    def consumer_custom_id(self) -> str:
        """Custom id of the consumer: the tenant's id, as rendered."""
        return _text(self.values.get("consumer"), "custom_id")

    @property
    def credential_id(self) -> str:
        """Kong's id of the credential, never the credential itself."""
        return _text(self.values.get("authenticated_entity"), "id")

    @property
    def route_id(self) -> str:
        """Kong's id of the route."""
        return _text(self.values.get("route"), "id")

    @property
    def route_name(self) -> str:
        """Name of the route."""
        return _text(self.values.get("route"), "name")

    # -- response -----------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """HTTP status that the client got."""
        found = _number(self.values.get("response"), "status")
        return int(found) if found is not None and found % 1 == 0 else None

    @property
    def response_size(self) -> int | None:
        """Bytes sent to the client, head included."""
        return _whole(self.values.get("response"), "size")

    def response_header(self, name: str) -> tuple[str, ...]:
        """All values of a response header; `name` is in lower case."""
        return _texts(self.values.get("response"), name)

    @property
    def is_stream(self) -> bool:
        """Whether the reply was sent as server-sent events."""
        return any(kind.startswith("text/event-stream") for kind in self.response_header("content-type"))

    @property
    def source(self) -> str:
        """Origin of the answer: ``upstream`` or ``kong``."""
        return _text(self.values, "source")

    @property
    def upstream_status(self) -> str:
        """HTTP status of each try, such as ``200`` or ``502, 200``."""
        found = self.values.get("upstream_status")
        if isinstance(found, int | float) and not isinstance(found, bool) and found:
            return str(found)
        return found if isinstance(found, str) else ""

    @property
    def attempts(self) -> int:
        """Number of tries to reach the provider."""
        tries = self.values.get("tries")
        return len(tries) if isinstance(tries, list) else 0

    @property
    def latencies_ms(self) -> dict[str, float]:
        """Milliseconds spent in ``kong``, ``proxy``, ``request``, ``receive``; ``proxy`` is -1 without a provider."""
        found = self.values.get("latencies")
        return {name: number for name in _LATENCIES if (number := _number(found, name)) is not None}

    # -- ai-proxy -----------------------------------------------------------------------------------------

    @property
    def reply(self) -> str | dict[str, Any] | list[Any] | None:
        """The reply, a ``chat.completion``: as JSON text, or parsed. None also where the client left in mid-stream.

        Of a stream it has the text only: no finish reason and no tool calls.
        """
        payload = _of_ai_proxy(self.values, "payload")
        found = payload.get("response") if isinstance(payload, dict) else None
        return found if isinstance(found, str | dict | list) else None

    @property
    def provider(self) -> str:
        """Name of the provider, such as ``openai``."""
        return _named(self.values, "provider_name")

    @property
    def request_model(self) -> str:
        """Model that was asked."""
        return _named(self.values, "request_model")

    @property
    def response_model(self) -> str:
        """Model that answered, by the provider's word."""
        return _named(self.values, "response_model")

    @property
    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds from sending the request to the first piece of a stream."""
        return _number(_of_ai_proxy(self.values, "meta"), "llm_time_to_first_token")

    @property
    def tokens(self) -> Tokens | None:
        """Tokens as ai-proxy counted them; None where each count is zero or absent, as where no provider was asked."""
        usage = _of_ai_proxy(self.values, "usage")
        prompt, completion, total = (_whole(usage, name) or 0 for name in TOKEN_NAMES)
        return (prompt, completion, total or prompt + completion) if prompt or completion or total else None

    @property
    def cost(self) -> float | None:
        """Cost in the currency of ai-proxy's ``input_cost`` and ``output_cost``; None also for no cost."""
        return _number(_of_ai_proxy(self.values, "usage"), "cost") or None

    # -- Tenantgate's -------------------------------------------------------------------------------------

    @property
    def notes(self) -> dict[str, Any]:
        """Notes that the rendered Lua adds, by name: plugins' verdicts as JSON texts, flags and short texts."""
        found = self.values.get("tenantgate")
        return found if isinstance(found, dict) else {}


def _of_ai_proxy(values: Mapping[str, Any], name: str) -> Any:
    ai = values.get("ai")
    proxy = ai.get("proxy") if isinstance(ai, dict) else None
    return proxy.get(name) if isinstance(proxy, dict) else None


def _named(values: Mapping[str, Any], name: str) -> str:
    found = _text(_of_ai_proxy(values, "meta"), name)
    return "" if found == _UNSPECIFIED else found


def _text(part: Any, name: str) -> str:
    found = part.get(name) if isinstance(part, dict) else None
    return found if isinstance(found, str) else ""


def _texts(part: Any, name: str) -> tuple[str, ...]:
    """A header's values: Kong logs one as a text, several as a list."""
    headers = part.get("headers") if isinstance(part, dict) else None
    found = headers.get(name) if isinstance(headers, dict) else None
    if isinstance(found, str):
        return (found,)
    return tuple([v for v in found if isinstance(v, str)]) if isinstance(found, list) else ()


def _number(part: Any, name: str) -> float | None:
    found = part.get(name) if isinstance(part, dict) else None
    # NaN, which Python's JSON has, fails both comparisons.
    usable = isinstance(found, int | float) and not isinstance(found, bool) and -1e15 < found < 1e15
    return found if usable else None


def _whole(part: Any, name: str) -> int | None:
    number = _number(part, name)
    return None if number is None else int(number)
