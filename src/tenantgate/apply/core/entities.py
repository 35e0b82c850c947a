"""Kong's entities as flat data: from a kong.yml or the Admin API, compared, and back to a kong.yml.

Keys of clients are among them, so no entity is ever printed whole.
"""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from tenantgate.config.names import TAG, entity_id

__all__ = ["KINDS", "Entity", "State", "beside", "from_tree", "marked", "same", "state_of", "to_tree"]

KINDS: Final = ("certificates", "snis", "services", "plugins", "routes", "consumers", "keyauth_credentials")
"""In the order in which they are created: a route serves when its service's plugins are there."""
_OWNERS: Final = {
    "certificate": "certificates",
    "service": "services",
    "route": "routes",
    "consumer": "consumers",
}
_SCOPES: Final = ("route", "service", "consumer")
_MARKED: Final = ("services", "plugins", "routes")

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One entity; fields that refer to another (``service``, ``route``, ``consumer``) hold its id as a text."""

    kind: str
    id: str
    fields: Mapping[str, Any] = field(repr=False)

    @property
    def ours(self) -> bool:
        """Whether it bears our tag."""
        return TAG in (self.fields.get("tags") or ())

    @property
    def name(self) -> str:
        """For messages: a name that is no secret."""
        found = self.fields.get("name") or self.fields.get("username") or self.fields.get("custom_id")
        return str(found) if found else self.id

    @property
    def natural_key(self) -> tuple[str, ...]:
        """What Kong has once, whatever the id."""
        match self.kind:
            case "plugins":
                scope = (str(self.fields.get(owner) or "") for owner in (*_SCOPES, "consumer_group"))
                return (self.kind, str(self.fields.get("name")), *scope)
            case "keyauth_credentials":
                return (self.kind, str(self.fields.get("key")), str(self.fields.get("consumer")))
            case _:
                return (self.kind, self.name)

    def with_fields(self, **fields: Any) -> Entity:
        """The same with other values in some fields."""
        return replace(self, fields={**self.fields, **fields})


State: TypeAlias = Mapping[tuple[str, str], Entity]
"""All entities of a Kong, by kind and id."""


def state_of(entities: Iterable[Entity]) -> dict[tuple[str, str], Entity]:
    """The entities by kind and id."""
    return {(e.kind, e.id): e for e in entities}


def from_tree(tree: Mapping[str, Any]) -> list[Entity]:
    """The entities of a kong.yml, nested or flat. One without an id gets one of its name."""
    found = [*_certificates(tree), *_services(tree)]
    consumers = list(_consumers(tree))
    names = {e.name: e.id for e in (*found, *consumers)}
    routes = {e.name: e.id for e in found if e.kind == "routes"}
    plugins = (_plugin(item, {}) for item in _list(tree, "plugins"))
    keys = (_key(item, str(item.get("consumer"))) for item in _list(tree, "keyauth_credentials"))
    return [*found, *consumers, *(_resolved(e, {**names, **routes}) for e in (*plugins, *keys))]


def _certificates(tree: Mapping[str, Any]) -> Iterator[Entity]:
    for item in _list(tree, "certificates"):
        certificate = _made("certificates", item, ",".join(sorted(s["name"] for s in _list(item, "snis"))))
        yield certificate
        for sni in _list(item, "snis"):
            yield _made("snis", {**sni, "certificate": certificate.id}, str(sni["name"]))
    for item in _list(tree, "snis"):
        yield _made("snis", item, str(item.get("name")))


def _services(tree: Mapping[str, Any]) -> Iterator[Entity]:
    ids = {}
    for item in _list(tree, "services"):
        service = _made("services", _without_url(item), str(item.get("name")))
        ids[service.name] = service.id
        yield service
        yield from (_plugin(p, {"service": service.id}) for p in _list(item, "plugins"))
        for route in _list(item, "routes"):
            yield from _route(route, {"service": service.id})
    for item in _list(tree, "routes"):
        yield from (_resolved(e, ids) for e in _route(item, {}))


def _route(item: Json, owner: Json) -> Iterator[Entity]:
    route = _made("routes", {**item, **owner}, str(item.get("name")))
    yield route
    yield from (_plugin(p, {"route": route.id}) for p in _list(item, "plugins"))


def _consumers(tree: Mapping[str, Any]) -> Iterator[Entity]:
    for item in _list(tree, "consumers"):
        consumer = _made("consumers", item, str(item.get("username") or item.get("custom_id")))
        yield consumer
        yield from (_plugin(p, {"consumer": consumer.id}) for p in _list(item, "plugins"))
        yield from (_key(k, consumer.id) for k in _list(item, "keyauth_credentials"))


def _plugin(item: Json, owner: Json) -> Entity:
    made = {**item, **owner}
    scope = ":".join(str(_reference(made.get(owner)) or "") for owner in _SCOPES)
    return _made("plugins", made, f"{item.get('name')}:{scope}")


def _key(item: Json, consumer: str) -> Entity:
    # The key itself may not become part of anything that is shown, so its id is made of a hash.
    name = hashlib.sha256(str(item.get("key")).encode()).hexdigest()
    return _made("keyauth_credentials", {**item, "consumer": consumer}, name)


def _made(kind: str, item: Mapping[str, Any], name: str) -> Entity:
    nested = {"id", "routes", "plugins", "keyauth_credentials", "snis"}
    kept = {k: v for k, v in item.items() if k not in nested}
    for owner in _OWNERS:
        if owner in kept:
            kept[owner] = _reference(kept[owner])
    return Entity(kind=kind, id=str(item.get("id") or entity_id(kind, name)), fields=kept)


def _reference(value: Any) -> Any:
    return value.get("id") or value.get("name") if isinstance(value, Mapping) else value


def _resolved(entity: Entity, ids: Mapping[str, str]) -> Entity:
    """References by a name become those by an id."""
    given = {o: str(entity.fields.get(o)) for o in _OWNERS}
    changed = {o: ids[v] for o, v in given.items() if v in ids}
    return entity.with_fields(**changed) if changed else entity


def _without_url(item: Json) -> Json:
    made = dict(item)
    if url := made.pop("url", None):
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        made |= {"protocol": parts.scheme, "host": parts.hostname, "port": port, "path": parts.path or None}
    return made


def _list(tree: Mapping[str, Any], name: str) -> list[Json]:
    return list(tree.get(name) or ())


def to_tree(entities: Iterable[Entity]) -> Json:
    """A kong.yml of these entities, flat."""
    tree: Json = {"_format_version": "3.0"}
    for kind in KINDS:
        tree[kind] = []
    for entity in entities:
        given = {k: v for k, v in entity.fields.items() if v is not None}
        tree[entity.kind].append({"id": entity.id, **given})
    return tree


def beside(tree: Mapping[str, Any]) -> Json:
    """What a flat kong.yml has of kinds that aren't compared (`KINDS`), as upstreams; nobody here may lose them."""
    return {kind: items for kind, items in tree.items() if isinstance(items, list) and kind not in KINDS}


def marked(entity: Entity) -> Entity:
    """The entity with a tag of its content, which says whether anything was taken out of it since.

    Not for consumers and keys: nothing of a key goes into a tag.
    """
    if entity.kind not in _MARKED:
        return entity
    text = json.dumps(dict(entity.fields), sort_keys=True)
    mark = f"{TAG}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return entity.with_fields(tags=[*(entity.fields.get("tags") or ()), mark])


def same(wanted: Entity, current: Entity) -> bool:
    """Whether Kong has all that `wanted` says; Kong adds fields with their defaults.

    What came from `tenantgate render` has no mark, and is compared without it.
    """
    tags = wanted.fields.get("tags") or ()
    if not any(_is_mark(tag) for tag in current.fields.get("tags") or ()) and any(map(_is_mark, tags)):
        wanted = wanted.with_fields(tags=[tag for tag in tags if not _is_mark(tag)])
    return _holds(current.fields, wanted.fields)


def _is_mark(tag: str) -> bool:
    return tag.startswith(f"{TAG}.")


def _holds(current: Any, wanted: Any) -> bool:
    if wanted is None or wanted in ({}, []):
        # Kong fills in an empty record, and has one form for an empty list and an empty map.
        return True
    if isinstance(wanted, Mapping):
        return isinstance(current, Mapping) and all(_holds(current.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list | tuple):
        if not isinstance(current, list | tuple) or len(current) != len(wanted):
            return False
        if all(isinstance(v, str) for v in (*wanted, *current)):
            return sorted(wanted) == sorted(current)  # sets come back in any order
        return all(_holds(c, w) for c, w in zip(current, wanted, strict=True))
    return bool(current == wanted)
