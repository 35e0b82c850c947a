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

from tenantgate.llm.usage import NAMES, Tokens

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
        return cls(value) if isinstance(_at(value, "request"), dict) else None

    # -- request ------------------------------------------------------------------------------------------

    @property
    def request_id(self) -> str:
        """Kong's id of the request: 32 hexadecimal digits."""
        return _text(self.values, "request", "id")

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
        return _text(self.values, "request", "method")

    @property
    def request_size(self) -> int | None:
        """Bytes of the request, head included."""
        return _whole(self.values, "request", "size")

    def request_header(self, name: str) -> tuple[str, ...]:
        """All values of a request header; `name` is in lower case."""
        return _texts(self.values, "request", "headers", name)

    @property
    def client_ip(self) -> str:
        """Address of the client."""
        return _text(self.values, "client_ip")

    @property
    def consumer_id(self) -> str:
        """Kong's id of the consumer."""
        return _text(self.values, "consumer", "id")

    @property
    def consumer_name(self) -> str:
        """User name of the consumer."""
        return _text(self.values, "consumer", "username")

    @property
    def consumer_custom_id(self) -> str:
        """Custom id of the consumer: the tenant's id, as rendered."""
        return _text(self.values, "consumer", "custom_id")

    @property
    def route_id(self) -> str:
        """Kong's id of the route."""
        return _text(self.values, "route", "id")

    @property
    def route_name(self) -> str:
        """Name of the route."""
        return _text(self.values, "route", "name")

    # -- response -----------------------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """HTTP status that the client got."""
        found = _number(self.values, "response", "status")
        return int(found) if found is not None and found % 1 == 0 else None

    @property
    def response_size(self) -> int | None:
        """Bytes sent to the client, head included."""
        return _whole(self.values, "response", "size")

    def response_header(self, name: str) -> tuple[str, ...]:
        """All values of a response header; `name` is in lower case."""
        return _texts(self.values, "response", "headers", name)

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
        found = _at(self.values, "ai", "proxy", "payload", "response")
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
        return _number(self.values, "ai", "proxy", "meta", "llm_time_to_first_token")

    @property
    def tokens(self) -> Tokens | None:
        """Tokens as ai-proxy counted them; None where each count is zero or absent, as where no provider was asked."""
        usage = _at(self.values, "ai", "proxy", "usage")
        prompt, completion, total = (_whole(usage, name) or 0 for name in NAMES)
        return (prompt, completion, total or prompt + completion) if prompt or completion or total else None

    @property
    def cost(self) -> float | None:
        """Cost in the currency of ai-proxy's ``input_cost`` and ``output_cost``; None also for no cost."""
        return _number(self.values, "ai", "proxy", "usage", "cost") or None

    # -- Tenantgate's -------------------------------------------------------------------------------------

    @property
    def notes(self) -> dict[str, Any]:
        """Notes that the rendered Lua adds, by name: plugins' verdicts as JSON texts, flags and short texts."""
        found = self.values.get("tenantgate")
        return found if isinstance(found, dict) else {}


def _at(record: Any, *path: str) -> Any:
    for step in path:
        record = record.get(step) if isinstance(record, dict) else None
    return record


def _text(record: Any, *path: str) -> str:
    found = _at(record, *path)
    return found if isinstance(found, str) else ""


def _texts(record: Any, *path: str) -> tuple[str, ...]:
    """A header's values: Kong logs one as a text, several as a list."""
    found = _at(record, *path)
    if isinstance(found, str):
        return (found,)
    return tuple(v for v in found if isinstance(v, str)) if isinstance(found, list) else ()


def _number(record: Any, *path: str) -> float | None:
    found = _at(record, *path)
    # NaN, which Python's JSON has, fails both comparisons.
    usable = isinstance(found, int | float) and not isinstance(found, bool) and -1e15 < found < 1e15
    return found if usable else None


def _whole(record: Any, *path: str) -> int | None:
    number = _number(record, *path)
    return None if number is None else int(number)


def _named(record: Any, name: str) -> str:
    found = _text(record, "ai", "proxy", "meta", name)
    return "" if found == _UNSPECIFIED else found
