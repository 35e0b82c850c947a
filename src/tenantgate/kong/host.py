"""`Host`: the few things a Tenantgate plugin does with a request, typed, counted and safe in its phase."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import msgpack

from tenantgate import llm
from tenantgate.errors import TenantgateError
from tenantgate.kong.pdk import LOG_METHODS, ServedKong, plain_result
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, request_of
from tenantgate.llm.operations import Operation
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

__all__ = [
    "MOST_SENT",
    "Answered",
    "DeadlineError",
    "Headers",
    "Host",
    "PdkMisuseError",
    "kept_text",
    "kept_value",
    "verdict_key",
]

_MAX_HEADERS: Final = 1000  # the most that kong.request.get_headers takes; its default of 100 can be flooded
_UNSET: Final = object()
MOST_SENT: Final = 1_000_000
"""Kong takes no larger body from a plugin server (a message of 1 MiB, its frame included)."""

_unread: Final = metrics.counter(
    "tenantgate_unread_requests_total",
    "Requests that are no chat in strict JSON, by why and what became of them.",
    ("reason", "outcome"),
)


class Answered(BaseException):
    """Ends a phase that has answered the client; nothing may be called after that. Caught by `phase`."""


class DeadlineError(TenantgateError):
    """The phase's time is over."""


class PdkMisuseError(TenantgateError):
    """A call that Kong can't answer in this phase; there it would raise and leave the phase hanging."""


class Headers:
    """Headers by case-insensitive name. A name may have several values.

    Values are texts; bytes that are not UTF-8 come as surrogate escapes (PEP 383) and leave unchanged.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        pairs = values.items() if isinstance(values, Mapping) else values
        for name, value in pairs:
            many = value if isinstance(value, list | tuple) else (value,)
            # Kong writes a header without a value as `true`, or as an empty list from its RPC.
            texts = [_text(v) if isinstance(v, str | bytes) else "" for v in many] or [""]
            self._values.setdefault(_text(name).lower(), []).extend(texts)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`."""
        found = self._values.get(name.lower())
        return found[0] if found else default

    def all(self, name: str) -> tuple[str, ...]:
        """All values of `name`, in order."""
        return tuple(self._values.get(name.lower(), ()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"  # names only: values may be credentials


class Host:
    """One phase of one request, for a plugin.

    Each method says how many PDK calls it makes: a call is a round trip to Kong, 20 to 90 µs and more under
    load. What Kong can't answer in this phase raises `PdkMisuseError` here, before it does harm there.

    Attributes:
        phase: ``access``, ``log`` or ``response``.
        config_keys: which entity of Kong's configuration runs: ``route_id``, ``service_id`` …
        route_name: the name of what the request is for, where one Kong route serves several; else "".
        pdk_calls: how many calls were made so far.
        recorded: what `record` gave last; None if it wasn't asked.
        served: whether Tenantgate's server runs the phase (else kong-pdk's).
        operation: what the request asks for; a chat, unless the engine says otherwise.
        unread: what in the request nobody can read, in a client's words; None: all can be read.
        system_prefix: the beginning of the system prompt that is the operator's; "": none.
    """

    __slots__ = (
        "_body",
        "_chat",
        "_credential",
        "_deadline",
        "_headers",
        "_kong",
        "_tenant",
        "answered",
        "config_keys",
        "operation",
        "pdk_calls",
        "phase",
        "recorded",
        "route_name",
        "served",
        "system_prefix",
        "unread",
    )

    def __init__(
        self, kong: Any, phase: str, *, deadline_ms: float, config_keys: Mapping[str, str] | None = None
    ):
        self._kong = kong
        self.served = isinstance(kong, ServedKong)
        # Our server counts from the arrival of the event, so time in its queue counts too.
        self._deadline = kong.deadline if self.served else time.monotonic() + deadline_ms / 1000
        self.phase = phase
        self.config_keys: Mapping[str, str] = config_keys or {}
        self.route_name = ""
        self.operation = Operation.CHAT
        self.unread: str | None = None
        self.system_prefix = ""
        self.pdk_calls = 0
        self.answered: int | None = None
        self.recorded: Mapping[str, Any] | None = None
        self._tenant: Any = _UNSET
        self._credential: Any = _UNSET
        self._body: Any = _UNSET
        self._headers: Any = _UNSET
        self._chat: ChatRequest | Refusal | None = None

    def remaining_ms(self) -> float:
        """Time left before the deadline, never below 0."""
        return max(0.0, (self._deadline - time.monotonic()) * 1000)

    def check_deadline(self) -> None:
        """Raise DeadlineError once the deadline has passed."""
        if time.monotonic() >= self._deadline:
            raise DeadlineError("the deadline has passed")

    def call(self, method: str, *args: Any) -> Any:
        """Any other PDK method, such as ``request.get_path``. One call.

        Raises:
            PdkMisuseError: it can't be answered in this phase.
            DeadlineError: the phase's time is over.
        """
        name = f"kong.{method}"
        if self.answered is not None:
            raise PdkMisuseError(f"{name} after the answer")
        if self.phase == "log" and name not in LOG_METHODS:
            raise PdkMisuseError(f"{name} can't be called in the log phase")
        self.check_deadline()
        if self.served:  # without an object for each part of the name
            before = self._kong.messages
            try:
                return self._kong.call(name, *args)
            finally:
                self.pdk_calls += self._kong.messages - before
        self.pdk_calls += 1
        function = self._kong
        for part in method.split("."):
            function = getattr(function, part)
        return plain_result(function(*args))

    # -- the request -------------------------------------------------------------------------------------

    def identifier(self) -> str:
        """Kong's id of the request, 32 hexadecimal digits; empty if Kong gave none. Not in log. One call."""
        found = self.call("nginx.get_var", "kong_request_id")
        return _text(found) if isinstance(found, str | bytes) else ""

    def tenant(self) -> TenantId | None:
        """The tenant: the consumer's ``custom_id``, or None without one. One call, the first time."""
        if self._tenant is _UNSET:
            consumer = self.call("client.get_consumer")
            custom_id = consumer.get("custom_id") if isinstance(consumer, Mapping) else None
            self._tenant = TenantId(_text(custom_id)) if custom_id else None
        found: TenantId | None = self._tenant
        return found

    def belongs_to(self, tenant: TenantId) -> None:
        """Say whose the request is, where that is known from elsewhere than Kong's consumer. No call.

        `tenant` gives it then, and Tenantgate's server counts the phase's processor time as this tenant's.
        """
        self._tenant = tenant
        if self.served:
            self._kong.belongs_to(str(tenant))

    def credential(self) -> str | None:
        """The id of the credential that the client showed, which isn't the key itself. One call, the first time."""
        if self._credential is _UNSET:
            shown = self.call("client.get_credential")
            found = shown.get("id") if isinstance(shown, Mapping) else None
            self._credential = _text(found) if isinstance(found, str | bytes) and found else None
        identifier: str | None = self._credential
        return identifier

    def body(self) -> bytes:
        """The whole request body, also from nginx's temporary file. Not in log. One call, the first time."""
        if self._body is _UNSET:
            self._body = _bytes(self.call("request.get_raw_body", 0))
        found: bytes = self._body
        return found

    def headers(self) -> Headers:
        """The client's headers. One call, the first time."""
        if self._headers is _UNSET:
            self._headers = Headers(self.call("request.get_headers", _MAX_HEADERS) or {})
        found: Headers = self._headers
        return found

    def request_id(self, header: str) -> str | None:
        """The request's id, which `header` holds. One call, the first time, and one more after access.

        After access the header may be gone: our routes let no header of the client's reach the provider, and note
        this one before they take it out (`tenantgate.config.scripts`).
        """
        found = self.headers().get(header)
        if found is None and self.phase != "access":
            noted = self.call("ctx.shared.get", "tenantgate_correlation")
            found = _text(noted) if isinstance(noted, str | bytes) else None
        return found

    def chat_request(self) -> ChatRequest | Refusal:
        """The request as all readers read it (`tenantgate.llm`), or why it can't be read. In access only.

        Where the client wrote it another way, the one writing of it replaces the client's, so that later plugins and
        Kong itself have nothing else to read. Two calls for headers and body, the first time, and one for a
        replacement.
        """
        if self._chat is None:
            self._chat = self._read_chat()
        return self._chat

    def _read_chat(self) -> ChatRequest | Refusal:
        headers = self.headers()
        problem = llm.media_problem(headers.all("content-type"), headers.all("content-encoding"))
        found = problem or llm.read(self.body())
        if isinstance(found, Refusal):
            return found
        if found.rewritten:
            if len(found.raw) <= MOST_SENT:
                self.replace_body(found.raw)
            elif found.altered:
                return Refusal(
                    Reason.TOO_LARGE,
                    f"A body of more than {MOST_SENT} bytes can't be rewritten: leave out members that are null.",
                )
            # Else the client's own bytes go on: every reader of strict JSON reads the same in them.
        return request_of(found)

    def refuse_unread(self, refusal: Refusal, *, strict: bool) -> None:
        """Answer a request that can't be read, if `strict` or if ai-proxy would read it as no JSON.

        Raises:
            Answered: it was answered.
        """
        if not strict and refusal.reason is not Reason.MEDIA_TYPE:
            _unread.inc(reason=refusal.reason.value, outcome="passed")
            return
        _unread.inc(reason=refusal.reason.value, outcome="refused")
        self.answer(refusal.reason.status, refusal.body(), {"Content-Type": JSON_TYPE})

    def replace_body(self, body: bytes) -> None:
        """Send `body` upstream instead of the client's. One call."""
        self.call("service.request.set_raw_body", body)
        self._body, self._chat = body, None

    def keep_body(self) -> bool:
        """Have the client's body kept for the log phase, if this host can do that; whether it can. No call."""
        return False

    def kept_body(self) -> bytes | None:
        """The client's body in the log phase, after `keep_body`; None if none was kept. No call."""
        return None

    # -- what plugins tell each other --------------------------------------------------------------------

    def share(self, name: str, text: str) -> None:
        """Leave a text under `name` in ``kong.ctx.shared``, for Lua such as the journal's fields. One call."""
        self.call("ctx.shared.set", name, text)

    def put_verdict(self, plugin: str, verdict: Mapping[str, Any]) -> None:
        """Leave a short JSON verdict, without any content of the request, for later plugins. One call."""
        self.call("ctx.shared.set", verdict_key(plugin), json.dumps(verdict, separators=(",", ":")))

    def verdict(self, plugin: str) -> Mapping[str, Any] | None:
        """The verdict that `plugin` left, if any. One call."""
        text = self.call("ctx.shared.get", verdict_key(plugin))
        if not isinstance(text, str | bytes):
            return None
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    # -- what a plugin tells its own later phases --------------------------------------------------------

    def keep(self, plugin: str, value: Mapping[str, Any]) -> None:
        """Leave plain values for `plugin`'s later phases of this request, in whichever process they run. One call.

        Texts, bytes, numbers, booleans, None, lists and maps; tens of kilobytes. They lie in Kong's memory, readable
        by its plugins and by no client, until the request is over, and may hold its content as the body does.
        """
        self.call("ctx.shared.set", _kept_key(plugin), kept_text(value))

    def kept(self, plugin: str) -> Mapping[str, Any] | None:
        """What `keep` was given, bytes as bytes; None if that was nothing. One call."""
        return kept_value(self.call("ctx.shared.get", _kept_key(plugin)))

    # -- the reply ---------------------------------------------------------------------------------------

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Set headers of the reply to the client. One call, none if there are none."""
        if headers:
            self.call("response.set_headers", _wire(headers))

    def answer(
        self,
        status: int,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        *,
        overtime: bool = False,
    ) -> NoReturn:
        """Answer the client and end the phase: this never returns. One call.

        `overtime`: even after the deadline.

        Raises:
            Answered: always; `phase` catches it, let it pass.
        """
        if overtime:
            self._deadline = math.inf
        if not self.served and self.pdk_calls == 0:
            # kong-pdk keeps an event for ever if exit is its very first call.
            self.call("ctx.shared.get", "tenantgate")
        payload = body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape")
        self.call("response.exit", status, payload, _wire(headers or {}))
        self.answered = status
        raise Answered

    @contextlib.contextmanager
    def waiting(self) -> Iterator[float]:
        """A block in which the phase may wait for somebody else than Kong, as many milliseconds as it gives. No call.

        The thread doesn't count meanwhile, and another may work. 0: too many phases wait.
        """
        with self._kong.aside() if self.served else contextlib.nullcontext(True) as may:
            yield self.remaining_ms() if may else 0.0

    def stand_in(self, answer: Callable[[], object]) -> None:
        """Have `answer` called, which answers the client, if no provider can be asked. No call.

        Nothing comes of it but in the engine: elsewhere nobody knows that of a provider before it was asked.
        """

    def response_status(self) -> int:
        """The reply's HTTP status; in log and response phases. One call."""
        return int(self.call("response.get_status") or 0)

    def response_headers(self) -> Headers:
        """The reply's headers; in log and response phases. One call."""
        return Headers(self.call("response.get_headers", _MAX_HEADERS) or {})

    def record(self) -> Mapping[str, Any]:
        """Kong's log record of the request, for the log phase; ``{}`` if Kong had none. One call.

        With ai-proxy's ``log_statistics`` and ``log_payloads`` it holds ``ai.proxy`` with both payloads.
        """
        if self.phase != "log":
            raise PdkMisuseError("the record is complete in the log phase only")
        text = self.call("log.serialize")
        found = json.loads(text) if isinstance(text, str | bytes) else text
        self.recorded = found if isinstance(found, dict) else {}
        return self.recorded


def verdict_key(plugin: str) -> str:
    """Where a plugin's verdict lies in ``kong.ctx.shared``: a Lua name, so that Lua code may read it too."""
    return "tenantgate_" + plugin.replace("-", "_")


def _kept_key(plugin: str) -> str:
    return verdict_key(plugin) + "_kept"


def kept_text(value: Mapping[str, Any]) -> str:
    """Plain values as a text of the characters up to U+00FF, one for each byte of their MessagePack.

    Lua has one type for texts and bytes: bytes would come back from Kong as texts that aren't UTF-8, which kong-pdk's
    server can't read at all.

    Raises:
        TypeError, ValueError, OverflowError: the values aren't plain.
    """
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass")).decode("latin-1")


def kept_value(text: Any) -> Mapping[str, Any] | None:
    """What `kept_text` was given; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = msgpack.unpackb(text.encode("latin-1"), unicode_errors="surrogatepass")
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return bytes(value) if value is not None else b""


def _wire(headers: Mapping[str, str]) -> dict[str, str | bytes]:
    # kong-pdk packs texts as strict UTF-8 and would fail on a surrogate escape; Lua takes bytes as well.
    return {k: v if v.isascii() else v.encode("utf-8", "surrogateescape") for k, v in headers.items()}
