"""Strict reading of a request's objects: each member is carried over, left out by name, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.refusal import Reason, Refusal

__all__ = [
    "COUNT",
    "FLAG",
    "LIST",
    "NAME",
    "NUMBER",
    "OBJECT",
    "TEXT",
    "TEXTS",
    "TEXT_OR_LIST",
    "TEXT_OR_OBJECT",
    "Find",
    "Kind",
    "Reader",
    "RefusedError",
    "Translated",
    "type_of",
    "unsupported",
    "wrong",
]


@dataclass(frozen=True, slots=True)
class Translated:
    """A request as a chat.

    Attributes:
        body: of the chat request.
        ignored: names of members that were left out since they change no meaning, sorted.
        stored: whether the client may refer to the reply's items later.
    """

    body: dict[str, Any] = field(repr=False)
    ignored: tuple[str, ...] = ()
    stored: bool = False


Find = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]
"""Gives the items of earlier responses with these ids, as far as there are such."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of values: `told` is what the client is told that a value must be."""

    told: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TEXT: Final = Kind("a string", lambda v: isinstance(v, str))
NAME: Final = Kind("a string that isn't empty", lambda v: isinstance(v, str) and v != "")
FLAG: Final = Kind("true or false", lambda v: isinstance(v, bool))
NUMBER: Final = Kind("a number", _number)
COUNT: Final = Kind("a whole number, 0 or more", lambda v: _number(v) and v >= 0 and v == int(v))
OBJECT: Final = Kind("an object", lambda v: isinstance(v, dict))
LIST: Final = Kind("a list", lambda v: isinstance(v, list))
TEXTS: Final = Kind("a list of strings", lambda v: isinstance(v, list) and all(isinstance(s, str) for s in v))
TEXT_OR_LIST: Final = Kind("a string or a list", lambda v: isinstance(v, str | list))
TEXT_OR_OBJECT: Final = Kind("a string or an object", lambda v: isinstance(v, str | dict))


class RefusedError(ValueError):
    """Ends a translation; never leaves this package."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.param)
        self.refusal = refusal


def wrong(param: str, told: str) -> RefusedError:
    """The refusal of a member `param`, which must be what `told` says."""
    return RefusedError(Refusal(Reason.NOT_CHAT, f"{param} must be {told}.", param))


def unsupported(param: str, why: str = "") -> RefusedError:
    """The refusal of a member `param`, or of its value, as nothing that a chat can say."""
    more = f": {why}" if why else ""
    return RefusedError(Refusal(Reason.NOT_CHAT, f"{param} isn't supported by this gateway{more}.", param))


def type_of(value: Any, where: str) -> str:
    """The `type` of an object, at most 50 characters of it.

    Raises:
        RefusedError: it is no object, or has none.
    """
    if not isinstance(value, dict):
        raise wrong(where, OBJECT.told)
    found = value.get("type")
    if not isinstance(found, str):
        raise wrong(f"{where}.type", TEXT.told)
    return found[:50]


class Reader:
    """Reader of one request; it gathers the names of what is left out.

    Attributes:
        native: whether the provider has the request's format, and so understands its hints.
        find: the look-up of items that the request only refers to; None: none are kept.
        stored: whether the client may refer to the reply's items later.
        ignored: names of members that were left out.
    """

    def __init__(self, *, native: bool = False, find: Find | None = None) -> None:
        self.native, self.find = native, find
        self.stored = False
        self.ignored: set[str] = set()

    def members(
        self, value: Any, where: str, kinds: Mapping[str, Kind], ignored: Collection[str] = ()
    ) -> dict[str, Any]:
        """The members of an object that are in `kinds`, without those that are null, which are absent.

        Args:
            value: the object.
            where: its place, such as ``messages[2]``; empty for the whole request.
            kinds: members that are carried over, each with its type.
            ignored: members that change no meaning.

        Raises:
            RefusedError: it is no object, a member has another type, or is none that is known.
        """
        if not isinstance(value, dict):
            raise wrong(where, OBJECT.told)
        found = {}
        for name, member in value.items():
            if member is None:
                continue
            param = f"{where}.{name}" if where else name
            if name in ignored:
                if name != "cache_control" or not self.native:
                    self.ignored.add(name)
            elif (kind := kinds.get(name)) is None:
                raise unsupported(_shown(param))
            elif not kind.fits(member):
                raise wrong(param, kind.told)
            else:
                found[name] = member
        return found

    def with_hint(self, made: dict[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
        """`made` with the block's mark for the provider's cache, where the provider understands it."""
        hint = block.get("cache_control")
        if self.native and isinstance(hint, dict):
            made["cache_control"] = hint
        return made

    def required(
        self,
        value: Any,
        where: str,
        kinds: Mapping[str, Kind],
        needed: Collection[str],
        ignored: Collection[str] = (),
    ) -> dict[str, Any]:
        """The same for an object that must have the `needed` members."""
        found = self.members(value, where, kinds, ignored)
        for name in needed:
            if name not in found:
                raise wrong(f"{where}.{name}" if where else name, kinds[name].told)
        return found


def _shown(param: str) -> str:
    """A name that the client has made up, short and printable."""
    return "".join(c if c.isprintable() else "?" for c in param[:200])
