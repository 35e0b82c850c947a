"""`Exchange`: a request in the engine's memory, with the methods that stages know of a plugin's `Host`.

Stages are the services of the attachable plugins, unchanged. What they ask of Kong is answered from the table that
tenantgate-request packed, and what they do to the request is collected for one decision: no call to Kong for any of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from tenantgate import llm
from tenantgate.engine.core.tables import PackedLog, PackedRequest
from tenantgate.kong.host import Answered, Headers, Host, kept_text, kept_value
from tenantgate.llm.chat import ChatRequest, Refusal
from tenantgate.llm.operations import Operation, Passed
from tenantgate.tenant import TenantId

__all__ = ["Exchange"]

_MISSING: Final = object()


class Exchange(Host):
    """One phase of one request, for all stages.

    Attributes:
        shared: the request's part of ``kong.ctx.shared``, by name: texts, and values that only the engine reads.
        reply_headers: headers for the reply.
        sent_body: the body that goes upstream in place of the client's, or None.
        answer_body, answer_headers: the answer to the client, where a stage gave one (`answered` is its status).
        keeps_body: whether the log phase wants the client's body.
        kept_values: what stages keep for the log phase, by plugin.
    """

    __slots__ = (
        "_complete",
        "_credential_id",
        "_end",
        "_identifier",
        "_record",
        "_request_headers",
        "_stand_ins",
        "_whole_deadline",
        "answer_body",
        "answer_headers",
        "keeps_body",
        "kept_values",
        "real",
        "reply_headers",
        "sent_body",
        "shared",
    )

    def __init__(
        self,
        real: Host,
        packed: PackedRequest | PackedLog,
        *,
        shared: Mapping[str, Any] | None = None,
        route_name: str = "",
        complete: bool = True,
    ) -> None:
        """`complete`: whether `shared` is all that stages may ask of ``kong.ctx.shared``; else Kong is asked, too."""
        super().__init__(None, real.phase, deadline_ms=real.remaining_ms(), config_keys={})
        self._complete = complete
        self.real = real
        self.served = True
        self.name_route(route_name)
        self._whole_deadline = self._deadline
        self._tenant = packed.tenant
        self._credential_id, self._identifier = packed.credential, packed.id
        self._body = packed.body
        self._end = packed if isinstance(packed, PackedLog) else None
        self._request_headers = packed.headers if isinstance(packed, PackedRequest) else {}
        self._record: Mapping[str, Any] | None = None
        self.shared: dict[str, Any] = dict(shared or {})
        self.reply_headers: dict[str, Any] = {}
        self.sent_body: bytes | None = None
        self.answer_body: bytes = b""
        self.answer_headers: Mapping[str, str] = {}
        self.keeps_body = False
        self.kept_values: dict[str, Any] = {}
        self._stand_ins: list[Callable[[], object]] = []

    @property
    def tenant_id(self) -> TenantId:
        """The tenant, who is always known here."""
        found: TenantId = self._tenant
        return found

    def name_route(self, name: str) -> None:
        """Set the logical route, which stands in records and parts the cache."""
        self.route_name = name
        self.config_keys = {"route_id": name} if name else {}

    def limit(self, milliseconds: float | None) -> None:
        """Let the next stage take this long at most, within what the whole phase has left; None: all of that."""
        own = self._whole_deadline
        if milliseconds is not None:
            own = min(own, time.monotonic() + milliseconds / 1000)
        self._deadline = own

    def call(self, method: str, *args: Any) -> Any:
        """What Kong would answer, from memory; what isn't there is asked of Kong itself.

        Raises:
            DeadlineError: the stage's time is over.
        """
        self.check_deadline()
        found = self._answer_of(method, args)
        return self.real.call(method, *args) if found is _MISSING else found

    def _answer_of(self, method: str, args: tuple[Any, ...]) -> Any:
        match method:
            case "client.get_credential":
                return {"id": self._credential_id} if self._credential_id else None
            case "request.get_headers" if self.phase == "access":
                return self._request_headers
            case "router.get_route":
                return {"id": self.route_name, "name": self.route_name}
            case "ctx.shared.get" if self._complete or args[0] in self.shared:
                return self.shared.get(args[0])
            case "ctx.shared.set" if self.phase != "response":
                self.shared[args[0]] = args[1]
                return None
            case "response.set_headers" if self.phase == "access":
                self.reply_headers.update(args[0])
                return None
            case "service.request.set_raw_body":
                self.sent_body = args[0]
                return None
            # In the response phase Kong hasn't packed the end yet, and only it knows these.
            case "response.get_source" if self._end is not None and self.phase == "log":
                return self._end.source
            case "response.get_status" if self._end is not None and self.phase == "log":
                return self._end.status
        return _MISSING

    def unpack(self, body: bytes) -> None:
        """Put the body that the client has packed in place of its own, as if it had never been packed."""
        given = self.headers()
        self._headers = Headers({name: given.all(name) for name in given if name != "content-encoding"})
        self.replace_body(body)

    def use_passed(self, passed: Passed) -> None:
        """Let all stages read this request of another operation than chat."""
        self.operation, self.unread = passed.operation, passed.unread
        self.use_body(llm.write(passed.request.body))
        self.use_chat(passed.request)

    def _read_chat(self) -> ChatRequest | Refusal:
        """The request as a stage has changed it: of another operation the client's headers say nothing about it."""
        if self.operation is Operation.CHAT:
            return super()._read_chat()
        body = json.loads(self.body())
        return ChatRequest(body, tuple(body["messages"]))

    def use_body(self, body: bytes) -> None:
        """Let all stages read this body; what goes upstream stays as it is."""
        self._body, self._chat = body, None

    def use_chat(self, request: ChatRequest | Refusal) -> None:
        """Let all stages read this request, or that it is none, without parsing the body again."""
        self._chat = request

    # As `Host` has them: what Kong keeps for the log phase costs a plugin calls, and the engine none.

    def keep_body(self) -> bool:
        """Let Kong keep the client's body for the log phase."""
        self.keeps_body = True
        return True

    def kept_body(self) -> bytes | None:
        """The client's body, in the log phase."""
        return None if self._end is None else self._end.body

    def keep(self, plugin: str, value: Mapping[str, Any]) -> None:
        """Leave plain values for the log phase."""
        self.kept_values[plugin] = kept_text(value)

    def kept(self, plugin: str) -> Mapping[str, Any] | None:
        """What `keep` was given; None if that was nothing."""
        return kept_value(self.kept_values.get(plugin))

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """As `Host.waiting`; the wait counts for the whole phase, and not for the stage's own time."""
        self.limit(None)
        with self.real.waiting() as left_ms:
            yield min(left_ms, self.remaining_ms())

    def stand_in(self, answer: Callable[[], object]) -> None:
        """As `Host.stand_in`."""
        self._stand_ins.append(answer)

    def answer_instead(self) -> None:
        """Let a stage answer in the place of a provider that can't be asked, if one would (`stand_in`).

        Raises:
            Answered: it did.
        """
        for answer in self._stand_ins:
            answer()

    def identifier(self) -> str:
        """Kong's own id of the request."""
        return self._identifier

    def request_id(self, header: str) -> str | None:
        """As `Host.request_id`; in log as tenantgate-request has noted it, without a call."""
        if self._end is not None and self.phase == "log":
            return self._end.correlation or None
        return super().request_id(header)

    def belongs_to(self, tenant: TenantId) -> None:
        """The engine has said so."""

    def record(self) -> Mapping[str, Any]:
        """Kong's log record. One call to Kong, the first time."""
        if self._record is None:
            self._record = self.real.record()
        return self._record

    def answer(
        self,
        status: int,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        *,
        overtime: bool = False,
    ) -> NoReturn:
        """Answer the client: in access the engine does it once the decision is written, else at once."""
        if self.phase != "access":
            self.real.answer(status, body, headers, overtime=overtime)
        self.answer_body = body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape")
        self.answer_headers = dict(headers or {})
        self.answered = status
        raise Answered
