"""The PDK object that phases get, and the rules of calling it.

It is kong-pdk's own class on a channel of ours, so plugins written for kong-pdk work unchanged. What the
class lacks is set right here: a `None` before a later argument, which Lua would take for the end of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from kong_pdk.exception import PDKException
from kong_pdk.pdk import FakeClasses, rpc_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tenantgate.kong.ahead import Ahead

__all__ = ["LOG_METHODS", "TERMINAL", "Abandoned", "Channel", "PDKException", "ServedKong", "plain_result"]

_GET: Final = "kong.ctx.shared.get"
_SET: Final = "kong.ctx.shared.set"
_RECORD: Final = "kong.log.serialize"

# These leave the phase on Kong's side: there is no answer to them, and nothing may be called after.
TERMINAL: Final = frozenset({"kong.response.exit", "kong.response.error"})

# What answers in a log phase, from data saved with the request (kong/runloop/plugin_servers/plugin.lua).
# Everything else raises on Kong's side there, and its answer never comes.
LOG_METHODS: Final = frozenset(
    {
        "kong.log.serialize",
        "kong.log.set_serialize_value",
        "kong.log",
        "kong.log.alert",
        "kong.log.crit",
        "kong.log.err",
        "kong.log.warn",
        "kong.log.notice",
        "kong.log.info",
        "kong.log.debug",
        "kong.request.get_headers",
        "kong.request.get_header",
        "kong.request.get_uri_captures",
        "kong.response.get_status",
        "kong.response.get_headers",
        "kong.response.get_header",
        "kong.response.get_source",
        "kong.service.response.get_raw_body",
        "kong.ctx.shared.get",
        "kong.ctx.shared.set",
        "kong.nginx.get_ctx",
        "kong.nginx.set_ctx",
        "kong.nginx.req_start_time",
        "kong.client.get_consumer",
        "kong.client.get_credential",
        "kong.router.get_route",
        "kong.router.get_service",
        "kong.node.get_id",
        "kong.node.get_hostname",
        "kong.node.get_memory_stats",
    }
)


class Abandoned(BaseException):
    """Raised in a phase whose event is over (deadline, lost connection), so that it unwinds.

    Not an `Exception`: a plugin's ``except Exception`` must not keep it alive.
    """


class Channel(Protocol):
    """The two ends of one event, as kong-pdk knows them.

    Attributes:
        ahead: what is known and told without a message of its own; None: nothing.
    """

    ahead: Ahead | None

    def put(self, message: Any) -> None:
        """Send ``{"Method": …, "Args": …}`` to Kong."""

    def get(self) -> tuple[Any, Any]:
        """The answer: ``(data, error)``."""

    def belongs_to(self, tenant: str) -> None:
        """Note whose the event is."""

    def aside(self) -> AbstractContextManager[bool]:
        """A block in which the phase may wait for somebody else, while another thread works; whether it may."""


class ServedKong(FakeClasses):  # type: ignore[misc]
    """kong-pdk's `kong` object when it is served by Tenantgate, which also knows the event's deadline.

    `deadline` is on the clock of `time.monotonic`; `belongs_to` and `aside` are the channel's. `messages` is how many
    calls Kong has got: what is known and told without one (`tenantgate.kong.ahead`) isn't counted.
    """

    def __init__(self, channel: Channel, deadline: float) -> None:
        self.messages = 0
        rpc, ahead = rpc_of(channel, lua_style=False), channel.ahead

        def call(method: str, *args: Any) -> Any:
            self.messages += 1
            return rpc(method, *args)

        super().__init__("kong", call if ahead is None else _ahead(ahead, call))
        self.deadline = deadline
        self.belongs_to = channel.belongs_to
        self.aside = channel.aside


def _ahead(ahead: Ahead, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, for what isn't known and can't be told without a message of its own."""

    def known_or_called(method: str, *args: Any) -> Any:
        if method == _GET and ahead.knows(args[0]):
            return ahead.get(args[0])
        if method == _SET and ahead.set(*args):
            return None
        if method == _RECORD and ahead.record is not None:
            return ahead.record
        if ahead.alone:
            raise PDKException(f"{method}: Kong answers no call in this phase")
        return call(method, *args)

    return known_or_called


def plain_result(result: Any) -> Any:
    """The data of a PDK call, also under a stock server in Lua style, where each call gives a pair.

    Raises:
        PDKException: the call failed; its message is Kong's and may hold content, so don't log it.
    """
    if type(result) is tuple:  # a PDK value comes from MessagePack and is never a tuple
        data, error = result
        if error:
            raise PDKException(error)
        return data
    return result
