"""What has to change in a Kong, and in which order: a function of what it has and what it should have.

Order of an apply: the new policies, then what is new or differs in Kong, with new keys as the last, and then what is
gone. A policy without a consumer is nobody's, so a tenant's key opens when its policy is in force everywhere. A plan is
made of what Kong has now, so an apply that was cut off is finished by the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tenantgate.apply.core.entities import KINDS, Entity, State, marked, same
from tenantgate.config.names import SERVICE, TAG, consumer_name, entity_id
from tenantgate.errors import ConfigError

__all__ = ["FORMER", "Plan", "make_plan", "removal"]

FORMER: Final = "llm-former"
"""What a service `llm` that isn't ours is renamed to: version 0.1's, as decK or the Admin API has created it."""
_FORMER_HOST: Final = "llm.invalid"
_FORMER_ROUTE: Final = re.compile(r"llm\.[^.]+\..+\.[^.]+")
_SERVING: Final = ("plugins", "services")
_OF_TENANTS: Final = ("consumers", "keyauth_credentials")
_KINDS: Final = {
    "certificates": "certificate",
    "snis": "server name (SNI)",
    "services": "service",
    "plugins": "plugin",
    "routes": "route",
    "consumers": "consumer",
    "keyauth_credentials": "key",
}
_OWNERS: Final = ("certificate", "service", "route", "consumer")
_ERRORS_MARK: Final = "tenantgate_error"


Differs: TypeAlias = Callable[[Entity, Entity], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes of one Kong, by step."""

    freed: tuple[Entity, ...] = ()
    """Keys that another tenant gets: taken from the one before the other has them."""
    admit: tuple[Entity, ...] = ()
    """New consumers and keys: after `settle`, whose secrets and routes they need."""
    settle: tuple[Entity, ...] = ()
    """Other entities that are new or differ."""
    withdraw: tuple[Entity, ...] = ()
    """Entities that are gone: last."""
    placed: tuple[Entity, ...] = field(default=(), repr=False)
    """All entities, under the ids that they have or get in this Kong."""
    wanted: tuple[Entity, ...] = field(default=(), repr=False)
    """All entities, for a Kong that takes its configuration as a whole: those of others, too."""
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The consumers' names by the ids that they have in Kong."""
    notes: tuple[str, ...] = ()
    """What the operator should know."""
    former: bool = False
    """Whether routes of version 0.1 go. Kong's workers go by their last router for some seconds, so not at once."""
    known: frozenset[str] = field(default=frozenset(), repr=False)
    """Ids of all that Kong has now."""

    def in_words(self) -> list[str]:
        """``+ 1 consumer, 2 keys``, ``~ plugin key-auth`` and ``- …``; consumers and keys are counted, others named."""
        new = [e for e in (*self.admit, *self.settle) if e.id not in self.known]
        changed = [e for e in (*self.admit, *self.settle) if e.id in self.known]
        found = (("+", new), ("~", changed), ("-", self.withdraw))
        return [f"{sign} {_listed(entities)}" for sign, entities in found if entities]

    @property
    def unserved(self) -> tuple[Entity, ...]:
        """Of `withdraw` those that are nobody's once Kong's workers have dropped the routes that go, too; they last."""
        routes = any(e.kind == "routes" for e in self.withdraw)
        return tuple(e for e in self.withdraw if routes and e.kind in _SERVING)

    @property
    def empty(self) -> bool:
        """Whether nothing has to change."""
        return not (self.freed or self.admit or self.settle or self.withdraw)


def make_plan(
    current: State, wanted: Sequence[Entity], *, whole: bool, differs: Differs = lambda a, b: not same(a, b)
) -> Plan:
    """The plan for a Kong that has `current`.

    Args:
        current: all that Kong has.
        wanted: all that it should have, each entity with our tag.
        whole: whether its configuration is replaced as a whole, so that what isn't ours has to be in it, too.
        differs: whether an entity that is wanted isn't what Kong has under its id.

    Raises:
        ConfigError: what isn't ours has a name, or a key, that one of ours needs.
    """
    wanted = [marked(e) for e in wanted]
    known = _Identities(current, wanted, whole=whole)
    placed = known.placed
    admit = [e for e in placed if e.kind in _OF_TENANTS and not known.present(e)]
    freed = _freed(current, admit, known)
    admitted = {(e.kind, e.id) for e in admit}
    rest = [e for e in placed if (e.kind, e.id) not in admitted]
    settle = [*known.renamed, *(e for e in rest if not _unchanged(current, e, differs))]
    kept = {(e.kind, e.id) for e in placed} | {(e.kind, e.id) for e in freed}
    gone = [e for e in current.values() if (e.kind, e.id) not in kept and known.leaves(e)]
    others: list[Entity] = []
    if whole:
        settle += _misplaced(current, [e for e in wanted if (e.kind, e.id) not in known.left_out], settle)
        leaving = kept | {(e.kind, e.id) for e in gone}
        others = _with_owners([e for at, e in current.items() if at not in leaving], wanted)
    return Plan(
        freed=tuple(freed),
        admit=tuple(admit),
        settle=tuple(_in_order(settle)),
        withdraw=tuple(_to_delete(gone)),
        placed=tuple(placed),
        wanted=(*(e for e in wanted if (e.kind, e.id) not in known.left_out), *others),
        names={e.id: e.name for e in placed if e.kind == "consumers"},
        notes=tuple(known.notes),
        former=any(known.of_former(e) for e in gone),
        known=frozenset(id_ for _, id_ in current),
    )


def removal(current: State) -> Plan:
    """The plan that takes all that is ours out of a Kong with a database, and the keys of our consumers."""
    consumers = {e.id for e in current.values() if e.kind == "consumers" and e.ours}
    gone = [e for e in current.values() if e.ours or e.fields.get("consumer") in consumers]
    return Plan(withdraw=tuple(_to_delete(gone)))


def _listed(entities: Iterable[Entity]) -> str:
    counts: dict[str, int] = {}
    named: list[str] = []
    for entity in entities:
        if entity.kind in _OF_TENANTS:
            kind = "key" if entity.kind == "keyauth_credentials" else "consumer"
            counts[kind] = counts.get(kind, 0) + 1
        else:
            named.append(f"{entity.kind[:-1]} {entity.name}")
    return ", ".join([*(f"{n} {kind}{'s'[: n != 1]}" for kind, n in counts.items()), *named])


def _unchanged(current: State, entity: Entity, differs: Differs) -> bool:
    found = current.get((entity.kind, entity.id))
    return found is not None and not differs(entity, found)


def _with_owners(others: Sequence[Entity], wanted: Sequence[Entity]) -> list[Entity]:
    """Entities of others without those whose owner goes; with a database Kong deletes them with it."""
    there = {(e.kind, e.id) for e in (*others, *wanted)}
    found = [e for e in others if all((f"{o}s", e.fields[o]) in there for o in _OWNERS if e.fields.get(o))]
    return found if len(found) == len(others) else _with_owners(found, wanted)


def _misplaced(current: State, wanted: Sequence[Entity], settle: Sequence[Entity]) -> list[Entity]:
    """Entities that are there under another id; a configuration as a whole gives them their own."""
    listed = {(e.kind, e.id) for e in settle}
    return [
        e
        for e in wanted
        if e.kind not in _OF_TENANTS and (e.kind, e.id) not in current and (e.kind, e.id) not in listed
    ]


class _Identities:
    """Which entity of Kong's is which of ours: by id, or by what Kong has once.

    Version 0.1 left the ids to Kong or decK, and a placeholder may get another one's key. Nothing that is there is
    created a second time.
    """

    def __init__(self, current: State, wanted: Sequence[Entity], *, whole: bool) -> None:
        self._current = current
        self._names = {e.natural_key: e for e in current.values()}
        self._ids: dict[str, str] = {}
        self._taken: set[tuple[str, str]] = set()
        self._custom_ids = {
            str(e.fields["custom_id"]): e
            for e in current.values()
            if e.kind == "consumers" and e.fields.get("custom_id") and not e.ours
        }
        self.left_out: set[tuple[str, str]] = set()
        """Entities whose place has one of others, which stays."""
        self.renamed: list[Entity] = []
        self.notes: list[str] = []
        self._former: str | None = None
        self._find_former(whole=whole)
        self.placed: list[Entity] = []
        for kind in (
            "certificates",
            "snis",
            "services",
            "routes",
            "consumers",
            "plugins",
            "keyauth_credentials",
        ):
            self._place([self._owned(e) for e in wanted if e.kind == kind], whole=whole)

    def present(self, entity: Entity) -> bool:
        """Whether Kong has what `entity` means, under its id."""
        found = self._names.get(entity.natural_key)
        return found is not None and found.id == entity.id

    def leaves(self, entity: Entity) -> bool:
        """Whether an entity that isn't wanted is ours to delete."""
        return self.of_former(entity) or entity.ours or self.is_tenants_key(entity)

    def is_tenants_key(self, entity: Entity) -> bool:
        """Whether it is a key of a tenant's consumer, whoever created it: a key that tenants.yaml hasn't is revoked."""
        owner = self._current.get(("consumers", str(entity.fields.get("consumer"))))
        return entity.kind == "keyauth_credentials" and owner is not None and self._is_tenant(owner)

    def _is_tenant(self, consumer: Entity) -> bool:
        return (
            consumer.ours or (consumer.kind, consumer.id) in self._taken or self._is_former_tenant(consumer)
        )

    def _is_former_tenant(self, consumer: Entity) -> bool:
        custom_id, username = consumer.fields.get("custom_id"), consumer.fields.get("username")
        return self._former is not None and bool(custom_id) and username == consumer_name(str(custom_id))

    def _find_former(self, *, whole: bool) -> None:
        for name in (SERVICE, FORMER):
            found = self._names.get(("services", name))
            if found is not None and self._is_former(found):
                self._former = found.id
                if name == SERVICE and not whole:
                    self._names.pop(found.natural_key)
                    self.renamed.append(found.with_fields(name=FORMER))
                    self.notes.append(
                        f"service {SERVICE} of version 0.1 becomes {FORMER}, and goes with its routes"
                    )
                break

    def _is_former(self, service: Entity) -> bool:
        """Whether it is version 0.1's: nobody else's goes to its host and has but its routes."""
        routes = [
            e for e in self._current.values() if e.kind == "routes" and e.fields.get("service") == service.id
        ]
        return (
            not service.ours
            and service.fields.get("host") == _FORMER_HOST
            and all(_FORMER_ROUTE.fullmatch(e.name) for e in routes)
        )

    def of_former(self, entity: Entity) -> bool:
        """Whether it belongs to version 0.1."""
        if self._former is None:
            return False
        if entity.kind == "consumers":
            return self._is_former_tenant(entity)
        return self._former in (entity.fields.get("service"), entity.id) or (
            entity.kind == "plugins"
            and (route := self._current.get(("routes", str(entity.fields.get("route"))))) is not None
            and route.fields.get("service") == self._former
        )

    def _owned(self, entity: Entity) -> Entity:
        changed = {
            owner: self._ids[id_]
            for owner in ("certificate", "service", "route", "consumer")
            if (id_ := entity.fields.get(owner)) in self._ids
        }
        return entity.with_fields(**changed) if changed else entity

    def _place(self, entities: Iterable[Entity], *, whole: bool) -> None:
        waiting = []
        for entity in entities:
            found = self._names.get(entity.natural_key)
            if found is None:
                waiting.append(entity)
            elif self._foreign(found):
                self.notes.append(
                    f"the global {entity.name} isn't ours and stays: errors where there is no route have Kong's shape"
                )
                self.left_out.add((entity.kind, entity.id))
            elif not self._may_take(entity, found, whole=whole):
                self._refuse(found, found.name)
            else:
                self._take(entity, found.id)
        for entity in waiting:
            custom_id = entity.fields.get("custom_id")
            if custom_id and (other := self._custom_ids.get(str(custom_id))) is not None:
                self._refuse(other, f"{other.name} with the custom_id {custom_id}")
            self._take(entity, self._free_id(entity))

    def _may_take(self, entity: Entity, found: Entity, *, whole: bool) -> bool:
        """Whether what Kong has in the place of `entity` is ours to change.

        By its tag, or in a database by its id, which only we give: somebody may have taken the tag away.
        """
        return (
            found.ours
            or (found.id == entity.id and not whole)
            or self.of_former(found)
            or self._is_global(found)  # version 0.1's, else `_foreign` has it
            or found.kind == "keyauth_credentials"  # of a consumer that is ours
        )

    def _refuse(self, found: Entity, name: str) -> None:
        owners = [
            f" of {owner} {of.name}"
            for owner in _OWNERS[1:]
            if (of := self._current.get((f"{owner}s", str(found.fields.get(owner))))) is not None
        ]
        raise ConfigError(
            f"Kong has a {_KINDS[found.kind]} {name}{''.join(owners)} that isn't Tenantgate's: it lacks the tag {TAG}. "
            "Nothing was changed; rename or remove it there, or give it the tag if it may be replaced"
        )

    @staticmethod
    def _is_global(found: Entity) -> bool:
        return found.kind == "plugins" and not any(
            found.fields.get(o) for o in ("service", "route", "consumer")
        )

    def _foreign(self, found: Entity) -> bool:
        """Whether a plugin for the whole gateway is the operator's own."""
        return (
            self._is_global(found) and not found.ours and _ERRORS_MARK not in str(found.fields.get("config"))
        )

    def _free_id(self, entity: Entity) -> str:
        made = entity.id
        while (entity.kind, made) in self._taken:
            made = entity_id(entity.kind, made)
        return made

    def _take(self, entity: Entity, id_: str) -> None:
        self._taken.add((entity.kind, id_))
        self._ids[entity.id] = id_
        self.placed.append(Entity(kind=entity.kind, id=id_, fields=entity.fields))


def _freed(current: State, admit: Sequence[Entity], known: _Identities) -> list[Entity]:
    """Keys in Kong with the value of one that is to be created: Kong has a value once."""
    owners = {e.id: e.name for e in (*admit, *current.values()) if e.kind == "consumers"}
    values = {e.fields["key"]: e for e in admit if e.kind == "keyauth_credentials"}
    out = []
    for entity in current.values():
        if entity.kind == "keyauth_credentials" and (wanted := values.get(entity.fields.get("key"))):
            if not (entity.ours or known.is_tenants_key(entity)):
                theirs, name = (owners.get(str(k.fields.get("consumer")), "?") for k in (entity, wanted))
                raise ConfigError(
                    f"a key of {name} belongs to Kong's consumer {theirs}, and wasn't created by Tenantgate; give "
                    f"{name} another key, or take it from {theirs}"
                )
            out.append(entity)
    return out


def _in_order(entities: Iterable[Entity]) -> list[Entity]:
    return sorted(entities, key=lambda e: KINDS.index(e.kind))


def _to_delete(entities: Sequence[Entity]) -> list[Entity]:
    """In the opposite order; keys go with their consumer."""
    going = {e.id for e in entities if e.kind == "consumers"}
    alone = [e for e in entities if e.kind != "keyauth_credentials" or e.fields.get("consumer") not in going]
    return sorted(alone, key=lambda e: -KINDS.index(e.kind))
