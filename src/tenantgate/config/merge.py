"""A rendered kong.yml put into one's own: in place of the entities with our tag, beside all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantgate.config.names import TAG
from tenantgate.errors import ConfigError

__all__ = ["is_ours", "merge", "without_ours"]

Json = dict[str, Any]
_KINDS: Final = ("certificates", "snis", "services", "routes", "consumers", "plugins", "keyauth_credentials")
_NAMES: Final = ("name", "username")


def is_ours(entity: Any) -> bool:
    """Whether it bears our tag."""
    return isinstance(entity, Mapping) and TAG in (entity.get("tags") or ())


def without_ours(tree: Mapping[str, Any]) -> Json:
    """The tree without entities that bear our tag; what is nested in another one's entity goes, too."""
    return {kind: _others(value) if kind in _KINDS else value for kind, value in tree.items()}


def _others(items: Any) -> Any:
    if not isinstance(items, list):
        return items
    return [
        {k: _others(v) if k in _KINDS else v for k, v in item.items()} if isinstance(item, dict) else item
        for item in items
        if not is_ours(item)
    ]


def merge(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Json:
    """One's own kong.yml with ours in it.

    A plugin for the whole gateway that both have stays one's own: Kong has each once.

    Raises:
        ConfigError: both have a service, route, consumer or server's name (SNI), or one's own is another format.
    """
    kept = without_ours(theirs)
    if "_format_version" not in kept:
        raise ConfigError("_format_version: missing, so the file to put this into is no kong.yml")
    if (version := kept["_format_version"]) not in ("3.0", "2.1", "1.1"):
        raise ConfigError(f"_format_version: {version}: must be 3.0")
    kept["_format_version"] = ours["_format_version"]
    _check("snis", list(_snis(kept)), list(_snis(ours)))
    for kind in _KINDS:
        found = ours.get(kind) or []
        if kind == "plugins":
            taken = {p.get("name") for p in kept.get(kind) or () if not _scoped(p)}
            found = [p for p in found if p["name"] not in taken]
        else:
            _check(kind, kept.get(kind) or [], found)
        if found:
            kept[kind] = [*(kept.get(kind) or ()), *found]
    return kept


def _scoped(plugin: Mapping[str, Any]) -> bool:
    return any(plugin.get(owner) for owner in ("service", "route", "consumer"))


def _snis(tree: Mapping[str, Any]) -> Iterator[Json]:
    """Names of servers, of which a Kong has each once: beside the certificates, or in them as objects or texts."""
    yield from tree.get("snis") or ()
    for certificate in tree.get("certificates") or ():
        yield from (s if isinstance(s, dict) else {"name": s} for s in certificate.get("snis") or ())


def _check(kind: str, theirs: list[Json], ours: list[Json]) -> None:
    if both := sorted(set(_named(theirs)) & set(_named(ours))):
        raise ConfigError(f"{kind}: {both[0]} is there already, without the tag {TAG}; give it another name")


def _named(items: list[Json]) -> Iterator[str]:
    for item in items:
        yield from (str(item[name]) for name in _NAMES if item.get(name))
