"""Kongs and a policy store in memory, which can end in the middle of an apply."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tenantgate.apply.core.entities import Entity, State, from_tree, state_of, to_tree
from tenantgate.apply.core.plan import Plan
from tenantgate.apply.running import Clock
from tenantgate.apply.targets import Target
from tenantgate.errors import EdgeError
from tenantgate.policy.core.ports import (
    Acknowledgement,
    ConflictError,
    PolicyStore,
    PublishNote,
    VersionInfo,
    content_hash,
    digest_of,
    successor,
)

_UNIQUE = {"services": "name", "routes": "name", "consumers": "username", "keyauth_credentials": "key"}
_OWNERS = {"service": "services", "route": "routes", "consumer": "consumers"}


class KilledError(Exception):
    """The apply ends here."""


class Fuse:
    """Ends the apply at the step with this number; None: never."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                self.left = None
                raise KilledError
            self.left -= 1


class MemoryKong(Target):
    """A Kong with a database, with its rules about what is unique and what refers to what."""

    whole = False
    name = "memory"

    def __init__(self, fuse: Fuse, entities: Sequence[Entity] = ()) -> None:
        self.fuse = fuse
        self.entities = state_of(entities)
        self.log: list[str] = []

    def read(self) -> State:
        return dict(self.entities)

    def settle(self, plan: Plan) -> None:
        for entity in plan.settle:
            self._put(entity)
        for entity in plan.freed:
            self._delete(entity)
        for entity in plan.admit:
            self._put(entity)

    def withdraw(self, plan: Plan, pause: Callable[[], object] = lambda: None) -> None:
        last = plan.unserved
        for entity in plan.withdraw:
            if entity not in last:
                self._delete(entity)
        pause()
        for entity in last:
            self._delete(entity)

    def _put(self, entity: Entity) -> None:
        self.fuse.step()
        others = [e for at, e in self.entities.items() if at != (entity.kind, entity.id)]
        if any(e.natural_key == entity.natural_key for e in others):
            raise EdgeError(f"409 {entity.kind}")
        if (field := _UNIQUE.get(entity.kind)) and any(
            e.kind == entity.kind and e.fields.get(field) == entity.fields.get(field) for e in others
        ):
            raise EdgeError(f"409 {entity.kind} {field}")
        for owner, kind in _OWNERS.items():
            if entity.fields.get(owner) and (kind, entity.fields[owner]) not in self.entities:
                raise EdgeError(f"400 {entity.kind}: no such {owner}")
        # As Kong does, with fields of its own.
        self.entities[entity.kind, entity.id] = entity.with_fields(created_at=1)
        self.log.append(
            f"put {entity.kind} {entity.name if entity.kind != 'keyauth_credentials' else ''}".strip()
        )

    def _delete(self, entity: Entity) -> None:
        self.fuse.step()
        if entity.kind == "services" and any(
            e.kind == "routes" and e.fields.get("service") == entity.id for e in self.entities.values()
        ):
            raise EdgeError("400 services: has routes")
        owner = {"services": "service", "routes": "route", "consumers": "consumer"}.get(entity.kind, "")
        self.entities.pop((entity.kind, entity.id), None)
        for at, e in list(self.entities.items()):
            if owner and e.fields.get(owner) == entity.id:
                del self.entities[at]
        self.log.append(
            f"delete {entity.kind} {entity.name if entity.kind != 'keyauth_credentials' else ''}".strip()
        )


class MemoryDbless(Target):
    """A Kong without a database."""

    whole = True
    name = "dbless"

    def __init__(self, fuse: Fuse, tree: Mapping[str, Any] | None = None) -> None:
        self.fuse = fuse
        self.tree: dict[str, Any] = dict(tree or {"_format_version": "3.0"})
        self.log: list[str] = []

    def read(self) -> State:
        found = from_tree(self.tree)
        assert len({e.natural_key for e in found}) == len(found), "Kong has each once"
        keys = [e.fields["key"] for e in found if e.kind == "keyauth_credentials"]
        assert len(set(keys)) == len(keys), "a key opens for one tenant"
        return state_of(found)

    def settle(self, plan: Plan) -> None:
        if self.due(plan):
            self._take(to_tree(plan.wanted), "settle")

    def _take(self, tree: dict[str, Any], what: str) -> None:
        self.fuse.step()
        self.tree = tree
        self.read()
        self.log.append(what)


class MemoryStore(PolicyStore):
    """Versions in a list."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self.versions: list[tuple[VersionInfo, dict[str, bytes]]] = []
        self.bodies: dict[bytes, bytes] = {}
        self.processes: dict[tuple[str, str], Acknowledgement] = {}

    def latest(self) -> VersionInfo | None:
        return self.versions[-1][0] if self.versions else None

    def version(self, number: int) -> VersionInfo | None:
        return next((info for info, _ in self.versions if info.number == number), None)

    def history(self, limit: int = 20) -> list[VersionInfo]:
        return [info for info, _ in reversed(self.versions)][:limit]

    def prune(self, keep: int) -> int:
        raise NotImplementedError

    def _publish(
        self,
        changes: Mapping[str, bytes | None],
        bodies: Mapping[bytes, bytes],
        *,
        expected: int,
        note: PublishNote,
        least: int,
    ) -> int:
        self.fuse.step()
        if expected != self.head():
            raise ConflictError(expected, self.head())
        index = self.versions[-1][1] if self.versions else {}
        info, delta = successor(index, changes, head=expected, note=note, least=least)
        new = {t: h for t, h in {**index, **delta}.items() if h is not None}
        assert info.digest == digest_of(new)
        self.bodies.update(bodies)
        self.versions.append((info, new))
        return info.number

    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        return {h: self.bodies[h] for h in hashes if h in self.bodies}

    def _hashes(self, info: VersionInfo) -> dict[str, bytes]:
        return next(index for found, index in self.versions if found is info)

    def acknowledge(
        self, node: str, process: str, version: int, at: float, unreadable: Sequence[str] = ()
    ) -> None:
        self.processes[node, process] = Acknowledgement(node, process, version, at, tuple(unreadable))

    def acknowledgements(self) -> list[Acknowledgement]:
        return list(self.processes.values())

    def close(self) -> None:
        pass

    def content(self) -> dict[str, bytes]:
        return {t: self.bodies[h] for t, h in (self.versions[-1][1] if self.versions else {}).items()}


class Time:
    """A clock that only a pause moves; what happens meanwhile is `meanwhile`."""

    def __init__(self, meanwhile: Callable[[float], object] = lambda _now: None) -> None:
        self.at = 1000.0
        self.meanwhile = meanwhile

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.at, monotonic=lambda: self.at, pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self.at += seconds
        self.meanwhile(self.at)


__all__ = ["Fuse", "KilledError", "MemoryDbless", "MemoryKong", "MemoryStore", "Time", "content_hash"]
