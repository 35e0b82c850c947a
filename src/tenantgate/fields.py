"""Configuration classes: frozen dataclasses whose fields carry Kong's schema attributes.

One class is the single source of a plugin's Kong schema, its documentation, its defaults and its checks (`parse`).
`fields_of` is the one place that reads a class's annotations; each of these is made from its result. Kong validates
too, but not for a plugin server that is driven by another host, and with less helpful messages.
"""

from __future__ import annotations

import dataclasses
import keyword
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, dataclass_transform

from tenantgate.errors import ConfigError

__all__ = [
    "COUNT_MAX",
    "MEGABYTES_MAX",
    "SECONDS_MAX",
    "Field",
    "FieldSpec",
    "Many",
    "Record",
    "Scalar",
    "Shape",
    "Table",
    "build",
    "check",
    "check_value",
    "config_class",
    "field",
    "fields_of",
    "parse",
    "plain",
    "problems",
]

COUNT_MAX: Final = 1_000_000_000
"""Upper bound of counts. Kong's numbers are doubles and Redis' are 64 bits: this fits both a thousandfold."""
MEGABYTES_MAX: Final = 16_777_216
"""Upper bound of sizes in MiB: 16 TiB."""
SECONDS_MAX: Final = 315_360_000
"""Upper bound of times to live: ten years of 365 days."""

T = TypeVar("T")
_SPEC: Final = "tenantgate"
_NAME_MAX: Final = 80  # characters of an unknown field's name in a message
_MISSING: Final = dataclasses.MISSING
_DESCRIPTION: Final = range(10, 501)  # kong/db/schema/metaschema.lua: len_min 10, len_max 500


@dataclasses.dataclass(frozen=True, slots=True)
class FieldSpec:
    """What a field accepts, in the words of Kong's schema (kong/db/schema/init.lua).

    `between` is inclusive, `gt` exclusive. `match` is a Python regex for `parse`, and `lua_match` the
    Lua pattern with the same meaning for Kong (they are different languages; give both or none).
    `referenceable` marks a secret: Kong resolves ``{vault://…}`` before the plugin sees it; `vault` is False for one
    that Kong reads no vault for. `address` marks the URL of something that is asked: egress policies hold for it.
    """

    description: str
    unit: str = ""
    one_of: tuple[str, ...] = ()
    between: tuple[float, float] | None = None
    gt: float | None = None
    len_min: int | None = None
    len_max: int | None = None
    match: str | None = None
    lua_match: str | None = None
    referenceable: bool = False
    vault: bool = True
    address: bool = False


def field(
    description: str,
    *,
    default: Any = _MISSING,
    unit: str = "",
    one_of: Sequence[str] = (),
    between: tuple[float, float] | None = None,
    gt: float | None = None,
    len_min: int | None = None,
    len_max: int | None = None,
    match: str | None = None,
    lua_match: str | None = None,
    referenceable: bool = False,
    vault: bool = True,
    address: bool = False,
) -> Any:
    """A configuration field, required unless it has a `default`. Lists are tuples, mappings dicts."""
    if len(description) not in _DESCRIPTION:
        raise ConfigError(f"description of {len(description)} characters: Kong takes 10 to 500")
    spec = FieldSpec(
        description=description,
        unit=unit,
        one_of=tuple(one_of),
        between=between,
        gt=gt,
        len_min=len_min,
        len_max=len_max,
        match=match,
        lua_match=lua_match,
        referenceable=referenceable,
        vault=vault,
        address=address,
    )
    metadata = {_SPEC: spec}
    shown = not referenceable  # a secret stays out of repr, hence out of logs
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata, repr=shown)
    if default is _MISSING:
        return dataclasses.field(metadata=metadata, repr=shown)
    return dataclasses.field(default=default, metadata=metadata, repr=shown)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def config_class(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass of `field`s."""
    return dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """A text, a number or a boolean."""

    type: type
    spec: FieldSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Many:
    """A list; a set where the order says nothing. `spec` holds the limits of its length, `element` the rest."""

    element: Shape
    spec: FieldSpec
    unordered: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A mapping of texts to values of one shape."""

    values: Shape
    spec: FieldSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A configuration class inside another; `fields_of` has its fields."""

    cls: type


Shape: TypeAlias = Scalar | Many | Table | Record


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a configuration class.

    Attributes:
        name: as operators write it.
        default: `dataclasses.MISSING` where a value is required.
        optional: whether None is a value, as in ``str | None``.
    """

    name: str
    spec: FieldSpec
    shape: Shape
    default: Any
    optional: bool

    @property
    def attribute(self) -> str:
        """The class's attribute: ``with_`` for ``with``, which is a keyword of Python's."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is _MISSING


def fields_of(cls: type) -> Mapping[str, Field]:
    """The fields of a configuration class by name, in order of declaration."""
    return _fields_of(cls)


@cache
def _fields_of(cls: type) -> Mapping[str, Field]:
    hints = typing.get_type_hints(cls)
    out: dict[str, Field] = {}
    for f in dataclasses.fields(cls):
        default = f.default
        if default is _MISSING and f.default_factory is not _MISSING:
            default = f.default_factory()
        spec, hint = f.metadata[_SPEC], hints[f.name]
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        name = f.name.removesuffix("_")
        out[name] = Field(name, spec, _shape(inner[0] if optional else hint, spec), default, optional)
    return types.MappingProxyType(out)


def _shape(hint: Any, spec: FieldSpec) -> Shape:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Record(hint)
    if origin in (tuple, frozenset):
        element = dataclasses.replace(spec, len_min=None, len_max=None)
        return Many(_shape(args[0], element), spec, unordered=origin is frozenset)
    if origin is dict:
        return Table(_shape(args[1], spec), spec)
    return Scalar(hint, spec)


def parse(cls: type[T], values: Mapping[str, Any], *, where: str = "config", strict: bool = False) -> T:
    """An instance of `cls` from plain values: `build`, then `check`.

    Raises:
        ConfigError: names the field as ``where.field`` and says what would be right.
    """
    made = build(cls, values, where=where, strict=strict)
    check(made, where=where)
    return made


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "config", strict: bool = False) -> T:
    """An instance of `cls` whose fields are right each by itself.

    Kong adds keys of its own (``__plugin_id``, ``route_id`` …), so unknown keys are ignored unless `strict`.
    A value of None counts as not given, as in Kong.

    Raises:
        ConfigError: names the field as ``where.field`` and says what would be right.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: must be a mapping, not {_kind(values)}")
    known = fields_of(cls)
    if strict:
        for name in values:
            if name not in known:
                shown = str(name)[:_NAME_MAX].encode("ascii", "backslashreplace").decode()
                raise ConfigError(f"{where}.{shown}: unknown field; known are {', '.join(known)}")
    given: dict[str, Any] = {}
    for name, f in known.items():
        value = values.get(name)
        if value is not None:
            given[f.attribute] = check_value(value, f.shape, f"{where}.{name}", strict=strict)
        elif f.required:
            raise ConfigError(f"{where}.{name}: required ({f.spec.description})")
    return cls(**given)


def problems(config: object) -> Iterator[tuple[str, str]]:
    """Each problem between the fields of a configuration, or of one inside it: the field's path, and the problem.

    A class says its own in a method ``problems(self) -> Iterator[tuple[str, str]]``; an empty path is the whole record.
    """
    for name, f in fields_of(type(config)).items():
        value = getattr(config, f.attribute)
        if isinstance(f.shape, Record) and value is not None:
            yield from ((f"{name}.{at}".rstrip("."), what) for at, what in problems(value))
        elif isinstance(f.shape, Many) and isinstance(f.shape.element, Record):
            for i, item in enumerate(value):
                yield from ((f"{name}[{i}].{at}".rstrip("."), what) for at, what in problems(item))
    own = getattr(config, "problems", None)
    if own is not None:
        yield from own()


def check(config: object, *, where: str = "config") -> None:
    """Refuse a configuration whose fields don't fit together.

    Raises:
        ConfigError: the first of its `problems`.
    """
    for at, what in problems(config):
        raise ConfigError(f"{where}.{at}: {what}" if at else f"{where}: {what}")


def plain(config: object) -> dict[str, Any]:
    """The fields of a configuration as YAML has them, records inside it, too; without those that are None."""
    values = ((name, getattr(config, f.attribute)) for name, f in fields_of(type(config)).items())
    return {k: _plain(v) for k, v in values if v is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return plain(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def check_value(value: Any, shape: Shape, where: str, *, strict: bool = False) -> Any:
    """`value` as a field of this shape holds it.

    Raises:
        ConfigError: names `where`, or a place inside, and says what would be right.
    """
    match shape:
        case Record(cls):
            return build(cls, value, where=where, strict=strict)
        case Many(element, spec, unordered):
            # Kong sends an empty Lua table as {}, whatever it stood for.
            if isinstance(value, Mapping) and not value:
                value = ()
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{where}: must be a list, not {_kind(value)}")
            _lengths(value, spec, where, "entries")
            made = (check_value(v, element, f"{where}[{i}]", strict=strict) for i, v in enumerate(value))
            return frozenset(made) if unordered else tuple(made)
        case Table(values):
            if isinstance(value, (list, tuple)) and not value:
                value = {}
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: must be a mapping, not {_kind(value)}")
            return {str(k): check_value(v, values, f"{where}.{k}", strict=strict) for k, v in value.items()}
        case Scalar(kind, spec):
            return _scalar(value, kind, spec, where)


def _scalar(value: Any, hint: Any, spec: FieldSpec, where: str) -> Any:
    if hint is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: must be true or false, not {_kind(value)}")
        return value
    if hint in (int, float):
        return _number(value, hint, spec, where)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: must be a text, not {_kind(value)}")
    shown = "the value" if spec.referenceable else repr(value[:80])
    if spec.one_of and value not in spec.one_of:
        raise ConfigError(f"{where}: {shown} is not one of {', '.join(spec.one_of)}")
    _lengths(value, spec, where, "characters")
    if spec.referenceable and value.startswith(("{vault://", "${{")):
        return value  # what stands there is known only where it is resolved
    # `$` also fits before a line end that is the last character; `fullmatch` takes no text with one.
    if spec.match and not re.fullmatch(f"(?:{spec.match})", value):
        raise ConfigError(f"{where}: {shown} does not match {spec.match}")
    return value


def _number(value: Any, hint: Any, spec: FieldSpec, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where}: must be a number, not {_kind(value)}")
    if not _finite(value):
        raise ConfigError(f"{where}: must be a finite number")
    if hint is int and value != int(value):
        raise ConfigError(f"{where}: must be a whole number, not {value}")
    number: int | float = hint(value)  # cjson writes a large integer as a float
    unit = f" {spec.unit}" if spec.unit else ""
    if spec.between and not spec.between[0] <= number <= spec.between[1]:
        raise ConfigError(f"{where}: {number} is outside {spec.between[0]} to {spec.between[1]}{unit}")
    if spec.gt is not None and not number > spec.gt:
        raise ConfigError(f"{where}: {number} must be above {spec.gt}{unit}")
    return number


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits, which JSON may have
        return False


def _lengths(value: Any, spec: FieldSpec, where: str, noun: str) -> None:
    if spec.len_min is not None and len(value) < spec.len_min:
        raise ConfigError(f"{where}: {len(value)} {noun}, needs at least {spec.len_min}")
    if spec.len_max is not None and len(value) > spec.len_max:
        raise ConfigError(f"{where}: {len(value)} {noun}, takes at most {spec.len_max}")


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", tuple: "a list", str: "a text", bool: "a boolean"}
    return "a number" if type(value) in (int, float) else names.get(type(value), type(value).__name__)
