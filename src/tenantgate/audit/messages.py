"""Messages from plugin servers to the audit worker: dataclasses here, msgpack on the socket.

A message is a map with a version and named fields. A reader ignores fields and types that it doesn't know, and `decode`
reads the lists of the first version too, so that a worker of this release can serve a plugin server that an upgrade
has left running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from tenantgate.audit.core.content import RawContent

__all__ = ["Content", "LeftOut", "Message", "Pipeline", "Settings", "decode", "encode", "pack", "unpacker"]

_VERSION: Final = 2
_LONGEST: Final = 256 << 20  # bytes of a message


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The configuration that a plugin server has; the first message on its connection.

    Attributes:
        values: as `tenantgate.audit.config.PipelineConfig` takes them.
        since: Unix time since when it has it, in seconds. Of several configurations the newest holds.
    """

    values: Mapping[str, Any] = field(repr=False)
    since: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the plugin, called `policy`.

    Attributes:
        policy: their name; contents and lines of the journal refer to it.
        route_id: Kong's id of the route that they hold for, also without their name; may be empty.
        values: as `tenantgate.audit.config.AuditConfig` takes them.
    """

    policy: str
    route_id: str
    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a request, taken under the settings called `policy`."""

    policy: str
    request_id: str
    raw: RawContent = field(repr=False)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A request whose content was left out, since too much waits for the worker."""

    policy: str
    request_id: str


Message = Pipeline | Settings | Content | LeftOut


def encode(message: Message) -> bytes:
    """The message as it is sent."""
    return pack({"v": _VERSION, **_fields(message)})


def decode(received: Any) -> Message | None:
    """The message of an unpacked object; None for a type that this release doesn't know.

    Raises:
        ValueError, TypeError, KeyError: it is no message.
    """
    if isinstance(received, list):
        return _of_list(received)
    match received["type"]:
        case "pipeline":
            return Pipeline(received["values"], float(received["since"]))
        case "settings":
            return Settings(received["policy"], received["route_id"], received["values"])
        case "content":
            raw = RawContent(
                received["body"],
                received["body_size"],
                received["reply"],
                received["reply_size"],
                received["headers"],
            )
            return Content(received["policy"], received["request_id"], raw)
        case "left_out":
            return LeftOut(received["policy"], received["request_id"])
        case _:
            return None


def _fields(message: Message) -> dict[str, Any]:
    match message:
        case Pipeline():
            return {"type": "pipeline", "values": message.values, "since": message.since}
        case Settings():
            return {
                "type": "settings",
                "policy": message.policy,
                "route_id": message.route_id,
                "values": message.values,
            }
        case Content(raw=raw):
            return {
                "type": "content",
                "policy": message.policy,
                "request_id": message.request_id,
                "body": raw.body,
                "body_size": raw.body_size,
                "reply": raw.reply,
                "reply_size": raw.reply_size,
                "headers": dict(raw.headers),
            }
        case LeftOut():
            return {"type": "left_out", "policy": message.policy, "request_id": message.request_id}


def _of_list(received: Sequence[Any]) -> Message | None:
    """A message of the first version: its kind and its fields by position."""
    match received:
        case ["policy", policy, route_id, values]:
            return Settings(policy, route_id, values)
        case ["content", policy, request_id, body, body_size, reply, reply_size, headers]:
            return Content(policy, request_id, RawContent(body, body_size, reply, reply_size, headers))
        case ["shed", policy, request_id]:
            return LeftOut(policy, request_id)
        case _:
            raise ValueError("no message of the first version")


def pack(value: Any) -> bytes:
    """A value in msgpack; texts may hold what is no UTF-8."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def unpacker() -> msgpack.Unpacker:
    """Takes a stream of packed values apart, with `feed` and by iterating."""
    return msgpack.Unpacker(raw=False, max_buffer_size=_LONGEST, unicode_errors="surrogateescape")
