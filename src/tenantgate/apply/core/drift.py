"""What was changed in a Kong by hand: its entities against those that were applied, field by field.

Kong fills in what an entity doesn't say by the defaults of its schemas, so a field that wasn't applied must have its
default. Values are never shown: some are credentials.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from tenantgate.apply.core.entities import KINDS, Entity, State, same
from tenantgate.apply.core.plan import Plan

__all__ = ["Schema", "Schemas", "changed_fields", "drift", "schema_name", "strangers"]

Schema: TypeAlias = Sequence[Mapping[str, Mapping[str, Any]]]
"""Fields of a record, as the Admin API's ``/schemas/…`` has them: a list of mappings with one name each."""
Schemas: TypeAlias = Mapping[str, Schema]
"""By `schema_name` the fields of a kind of entity; those of a Kong, or none."""

_EMPTY: Final[tuple[Any, ...]] = (None, [], {})
_OWNERS: Final = ("service", "route", "consumer")
_OWN_KINDS: Final = ("services", "routes", "consumers")
_OF_KONG: Final = frozenset({"id", "created_at", "updated_at", "ws_id"})


def schema_name(entity: Entity) -> str:
    """Of the schema that an entity has: ``services``, ``plugins/key-auth``."""
    return f"plugins/{entity.name}" if entity.kind == "plugins" else entity.kind


def changed_fields(wanted: Entity, current: Entity, schemas: Schemas) -> list[str]:
    """Names of the fields that aren't as they were applied, such as ``config.key_names``; none: all is as it was.

    Without a schema for this kind only fields that were applied are compared.
    """
    schema = schemas.get(schema_name(wanted))
    if schema is None:
        return [] if same(wanted, current) else _applied(wanted, current)
    found = [name for name in _record(wanted.fields, current.fields, schema, "") if name != "tags"]
    # Of tags `same` knows which ones came with a mark.
    tags = {"tags": wanted.fields.get("tags")}
    if not same(Entity(kind=wanted.kind, id=wanted.id, fields=tags), current):
        found.append("tags")
    return sorted(found)


def _applied(wanted: Entity, current: Entity) -> list[str]:
    def part(entity: Entity, name: str) -> Entity:
        fields = {name: entity.fields.get(name)} | ({} if name == "tags" else {"tags": ["x"]})
        return Entity(kind=entity.kind, id=entity.id, fields=fields)

    return sorted(name for name in wanted.fields if not same(part(wanted, name), part(current, name)))


def _record(wanted: Mapping[str, Any], current: Any, schema: Schema, path: str) -> Iterator[str]:
    there = current if isinstance(current, Mapping) else {}
    for field in schema:
        for name, spec in field.items():
            if spec.get("auto") or (not path and name in _OF_KONG):
                continue
            yield from _field(wanted.get(name), there.get(name), spec, f"{path}{name}")


def _field(wanted: Any, current: Any, spec: Mapping[str, Any], path: str) -> Iterator[str]:
    kind = spec.get("type")
    if kind == "record" and "fields" in spec:
        if current is None and wanted in _EMPTY:
            return
        yield from _record(wanted or _default(spec) or {}, current, spec["fields"], f"{path}.")
    elif not _equal(_default(spec) if wanted is None else wanted, current, spec):
        yield path


def _default(spec: Mapping[str, Any]) -> Any:
    return spec.get("default")


def _equal(wanted: Any, current: Any, spec: Mapping[str, Any]) -> bool:
    if wanted in _EMPTY or current in _EMPTY:
        return wanted in _EMPTY and current in _EMPTY
    kind = spec.get("type")
    if kind == "record" and "fields" in spec:
        return not any(_record(wanted, current, spec["fields"], "."))
    if kind in ("array", "set"):
        of = spec.get("elements", {})
        if not (isinstance(current, list) and isinstance(wanted, list | tuple)) or len(wanted) != len(
            current
        ):
            return False
        if kind == "set":
            wanted, current = _sorted(wanted), _sorted(current)
        return all(_equal(w, c, of) for w, c in zip(wanted, current, strict=True))
    if kind == "map":
        of = spec.get("values", {})
        return wanted.keys() == current.keys() and all(_equal(wanted[k], current[k], of) for k in wanted)
    return bool(wanted == current)


def _sorted(values: Sequence[Any]) -> list[Any]:
    return sorted(values, key=lambda value: json.dumps(value, sort_keys=True))


def drift(plan: Plan, current: State, schemas: Schemas) -> list[str]:
    """A line for each entity that is missing, was changed, or bears our tag and wasn't applied; no keys.

    Args:
        plan: what would mend it.
        current: what the Kong has.
        schemas: of the Kong.
    """
    lines = []
    names = {(e.kind, e.id): e.name for e in (*current.values(), *plan.placed)}
    for entity in _in_order((*plan.admit, *plan.settle)):
        found = current.get((entity.kind, entity.id))
        told = _told(entity, names)
        if found is None:
            lines.append(f"missing: {told}")
        else:
            lines.append(f"changed: {told}: {', '.join(changed_fields(entity, found, schemas)) or 'its id'}")
    lines += [f"extra: {_told(entity, names)}" for entity in _in_order((*plan.freed, *plan.withdraw))]
    return lines


def strangers(plan: Plan, current: State) -> list[str]:
    """Routes and plugins of others that are attached to our entities, and plugins of the whole gateway.

    They stay, and may change what ours do.
    """
    ours = {e.id for e in plan.placed if e.kind in _OWN_KINDS}
    listed = {(e.kind, e.id) for e in (*plan.placed, *plan.freed, *plan.withdraw, *plan.settle)}
    names = {(e.kind, e.id): e.name for e in current.values()}

    def acts(entity: Entity) -> bool:
        owners = {str(of) for owner in _OWNERS if (of := entity.fields.get(owner))}
        return bool(ours & owners) or (entity.kind == "plugins" and not owners)

    return [
        f"not ours: {_told(entity, names)}"
        for entity in _in_order(current.values())
        if entity.kind in ("routes", "plugins") and (entity.kind, entity.id) not in listed and acts(entity)
    ]


def _told(entity: Entity, names: Mapping[tuple[str, str], str]) -> str:
    """``plugin cors of service llm``, ``a key of consumer tenant_acme``."""
    owners = [
        f"{owner} {names.get((f'{owner}s', str(of)), of)}"
        for owner in _OWNERS
        if (of := entity.fields.get(owner))
    ]
    of = f" of {', '.join(owners)}" if owners and entity.kind != "routes" else ""
    if entity.kind == "keyauth_credentials":
        return f"a key{of}"
    if entity.kind == "plugins" and not owners:
        of = " of the whole gateway"
    return f"{entity.kind[:-1]} {entity.name}{of}"


def _in_order(entities: Any) -> list[Entity]:
    return sorted(entities, key=lambda e: (KINDS.index(e.kind), e.name))
