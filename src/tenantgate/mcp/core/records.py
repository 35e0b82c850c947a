"""Servers as plain values in the policy record of their tenant, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from tenantgate.errors import ConfigError
from tenantgate.mcp.core.tool import Server

__all__ = ["plain", "server_of"]


def plain(server: Server) -> dict[str, Any]:
    """JSON's values, without what has its default."""
    return _plain(server)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(found)
            for f in dataclasses.fields(value)
            if (found := getattr(value, f.name)) != _default(f)
        }
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default  # MISSING is equal to no value


def server_of(tree: Mapping[str, Any]) -> Server:
    """The server in plain values.

    Raises:
        ConfigError: they are none that this version knows; names the member.
    """
    made: Server = _built(Server, tree, "mcp")
    return made


def _built(cls: type, tree: Any, where: str) -> Any:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: must be an object")
    kinds = _kinds(cls)
    if unknown := sorted(tree.keys() - kinds.keys()):
        raise ConfigError(f"{where}.{unknown[0]}: unknown member")
    values = {name: _value(kinds[name], value, f"{where}.{name}") for name, value in tree.items()}
    try:
        return cls(**values)
    except TypeError:
        raise ConfigError(f"{where}: a member is missing") from None


@cache
def _kinds(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _value(kind: Any, value: Any, where: str) -> Any:
    if typing.get_origin(kind) is types.UnionType:
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        return _built(kind, value, where)  # type: ignore[arg-type]
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: must be a list")
        element = typing.get_args(kind)[0]
        return tuple(_value(element, v, f"{where}[{i}]") for i, v in enumerate(value))
    if typing.get_origin(kind) is not None:  # a mapping, of plain values or of objects
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: must be an object")
        inner = typing.get_args(kind)[1] if len(typing.get_args(kind)) > 1 else Any
        if dataclasses.is_dataclass(inner):
            return {k: _value(inner, v, f"{where}.{k}") for k, v in value.items()}
        return value
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ConfigError(f"{where}: must be of type {kind.__name__}")
    return value
