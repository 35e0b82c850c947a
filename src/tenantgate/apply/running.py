"""One apply: the new policies, a wait for all nodes, then Kong.

Each step depends only on what Kong and the store have, so an apply that was cut off is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from tenantgate.apply.core import nodes
from tenantgate.apply.core.drift import Schemas, changed_fields
from tenantgate.apply.core.entities import Entity, State
from tenantgate.apply.core.plan import Plan, make_plan
from tenantgate.apply.targets import Target
from tenantgate.errors import EdgeError
from tenantgate.policy.core.ports import (
    Acknowledgement,
    PolicyStore,
    PublishNote,
    content_hash,
    difference,
    least_number,
    pages,
)

__all__ = ["Changes", "Clock", "Planned", "Run", "fail_unread", "plan_of", "remove", "wait_for_nodes"]

_POLL_S: Final = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time; a test gives its own."""

    now: Callable[[], float]
    """Unix time in seconds."""
    monotonic: Callable[[], float]
    """Seconds since some moment."""
    pause: Callable[[float], object]
    """Waits so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What an apply would do.

    Attributes:
        head: the newest version of the policies.
        least: the least number that each node takes: above `head` + 1, the store has lost versions.
        records: the records that change, by tenant id; None for a tenant that is gone.
        damaged: the tenants whose records the store has lost; they are among `records`.
        plans: by Kong what changes there.
    """

    head: int
    least: int
    records: Mapping[str, bytes | None]
    damaged: frozenset[str]
    plans: Sequence[tuple[Target, Plan]]

    @property
    def publishes(self) -> bool:
        """Whether there is a new version to publish."""
        return bool(self.records) or self.least > self.head + 1

    @property
    def empty(self) -> bool:
        """Whether all is as it should be."""
        return not self.publishes and not any(target.due(plan) for target, plan in self.plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what it was made of."""

    plan: Plan
    current: State
    schemas: Schemas


def plan_of(target: Target, wanted: Sequence[Entity]) -> Planned:
    """The plan by which a Kong has `wanted`, with all that was changed by hand."""
    current, schemas = target.read(), target.schemas(wanted)
    plan = make_plan(
        current, wanted, whole=target.whole, differs=lambda a, b: bool(changed_fields(a, b, schemas))
    )
    return Planned(plan=plan, current=current, schemas=schemas)


class Run:
    """One apply.

    Args:
        store: the policies' store.
        targets: the Kongs.
        clock: the time.
        say: takes each line for the operator.
        timeout_s: of the wait for all nodes.
    """

    def __init__(
        self, store: PolicyStore, targets: Sequence[Target], *, clock: Clock, say: Say, timeout_s: float
    ) -> None:
        self._store, self._targets = store, targets
        self._clock, self._say, self._timeout_s = clock, say, timeout_s

    def changes(self, records: Mapping[str, bytes], wanted: Sequence[Entity]) -> Changes:
        """What would change, so that the policies are `records`, by tenant id, and Kong has `wanted`."""
        head = self._store.head()
        index = self._store.index(head)
        found = difference(index, {tenant: content_hash(record) for tenant, record in records.items()})
        damaged = _damaged(self._store, index)
        changed = {tenant: records.get(tenant) for tenant in (*found, *damaged)}
        plans = [(t, plan_of(t, wanted).plan) for t in self._targets]
        return Changes(
            head=head, least=least_number(self._store), records=changed, damaged=damaged, plans=plans
        )

    def apply(self, changes: Changes, note: Callable[[], PublishNote]) -> None:
        """Do it.

        Raises:
            ConflictError: somebody else has published meanwhile.
            EdgeError: Kong or the store failed, a node doesn't take the new version, or, when all is done, an
                engine can't read some tenants' records.
        """
        for target, plan in changes.plans:
            for text in plan.notes:
                self._say(f"{target.name}: {text}")
        version = changes.head
        if changes.publishes:
            with self._timed("policies published"):
                version = self._store.publish(
                    changes.records, expected=changes.head, note=note(), least=changes.least
                )
        unread: list[str] = []
        if version:
            unread = wait_for_nodes(self._store, version, self._clock, self._say, self._timeout_s)
        for target, plan in changes.plans:
            if target.due(plan):
                with self._timed(f"{target.name}: up to date"):
                    target.settle(plan)
                    if plan.former and not target.whole:
                        _propagate(target, "to take the new routes", self._clock, self._say)
                    target.withdraw(
                        plan, partial(_propagate, target, "to drop the routes", self._clock, self._say)
                    )
        fail_unread(version, unread)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = self._clock.monotonic()
        yield
        self._say(f"{what} ({self._clock.monotonic() - start:.1f} s)")


def remove(target: Target, plan: Plan, *, clock: Clock, say: Say) -> None:
    """Take out of a Kong with a database what `removal` names, so that no route is ever there without its plugins.

    Raises:
        EdgeError: Kong failed; the next one goes on from there.
    """
    start = clock.monotonic()
    target.withdraw(plan, partial(_propagate, target, "to drop the routes", clock, say))
    say(f"{target.name}: nothing of Tenantgate is left ({clock.monotonic() - start:.1f} s)")


def _propagate(target: Target, why: str, clock: Clock, say: Say) -> None:
    seconds = target.propagation_s()
    say(f"{target.name}: {seconds:.0f} s for all workers {why}")
    clock.pause(seconds)


def fail_unread(version: int, unread: Sequence[str]) -> None:
    """End with an error where some records aren't in force; what else there was to do is done.

    Raises:
        EdgeError: names how many.
    """
    if unread:
        raise EdgeError(
            f"version {version} isn't in force for {len(unread)} tenant{'s'[: len(unread) != 1]}, see above; "
            "the engines' logs say why"
        )


def wait_for_nodes(store: PolicyStore, version: int, clock: Clock, say: Say, timeout_s: float) -> list[str]:
    """Wait until each process that runs goes by `version` or a later one, and say so.

    Returns:
        A line for each tenant whose record isn't in force somewhere, for `fail_unread`; said, too.

    Raises:
        EdgeError: the time is up, and names the nodes that don't; or the store has lost versions.
    """
    first = store.acknowledgements()
    start = clock.monotonic()
    while True:
        running = nodes.live(store.acknowledgements(), now=clock.now(), first=first)
        late = nodes.behind(running, version)
        if (most := max((a.version for a in running), default=0)) > version and most > store.head():
            raise EdgeError(
                f"version {version} is published, but nodes go by version {most} of before the store was emptied or "
                "replaced; the next `tenantgate apply` publishes one above it"
            )
        if not late:
            unread = nodes.unread(running)
            say(_in_force(version, running, clock.monotonic() - start, but=bool(unread)))
            for line in unread:
                say(line)
            return unread
        if clock.monotonic() >= start + timeout_s:
            raise EdgeError(
                f"version {version} is published, and not in force on {', '.join(late)} after {timeout_s:.0f} s. "
                "Kong still has the tenants and keys of before; the next `tenantgate apply` goes on from here"
            )
        clock.pause(_POLL_S)


def _damaged(store: PolicyStore, index: Mapping[str, bytes]) -> frozenset[str]:
    """The tenants whose records aren't there, or aren't whole."""
    whole: set[bytes] = set()
    for page in pages(set(index.values())):
        whole |= store.contents(page).keys()
    return frozenset(tenant for tenant, hashed in index.items() if hashed not in whole)


def _in_force(version: int, running: Sequence[Acknowledgement], seconds: float, *, but: bool) -> str:
    count = len({a.node for a in running})
    if not count:
        return "no engine has reported a version yet: it takes this one when it starts"
    where = "the only node" if count == 1 else f"all {count} nodes"
    return (
        f"version {version} in force on {where}{', but for these tenants' if but else ''} ({seconds:.1f} s)"
    )
