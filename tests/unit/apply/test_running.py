"""The order of an apply, and its wait for all nodes."""

from __future__ import annotations

from typing import Any

import pytest

from apply_rig import Fuse, MemoryDbless, MemoryStore, Time, content_hash
from tenantgate.apply.core.entities import from_tree
from tenantgate.apply.running import Run, wait_for_nodes
from tenantgate.config import load_text
from tenantgate.config.deck_variables import resolve_tree
from tenantgate.config.render import entities
from tenantgate.errors import EdgeError
from tenantgate.policy.core.ports import ConflictError, PublishNote, roll_back

NOTE = PublishNote(author="a", message="", at=1.0)


def wanted(*tenants: str) -> list[Any]:
    lines = "".join(f"  - id: {t}\n    api_keys: ['${{{{ env \"DECK_{t}\" }}}}']\n" for t in tenants)
    tree = entities(load_text(f"version: 1\ntenants:\n{lines}"))
    return from_tree(resolve_tree(tree, {f"DECK_{t}": f"key-{t}" for t in tenants}))


class Steps(MemoryDbless):
    """Notes which version is in force when Kong changes."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(Fuse())
        self.store = store
        self.seen: list[tuple[str, int]] = []

    def _take(self, tree: dict[str, Any], what: str) -> None:
        super()._take(tree, what)
        self.seen.append((what, self.store.head()))


def run(store: MemoryStore, *targets: MemoryDbless, time: Time | None = None, timeout_s: float = 5.0) -> Run:
    return Run(store, targets, clock=(time or Time()).clock, say=lambda _line: None, timeout_s=timeout_s)


def test_kong_changes_in_one_step_when_the_policies_are_in_force() -> None:
    store = MemoryStore()
    kong = Steps(store)
    one = run(store, kong)
    one.apply(one.changes({"a": b"1"}, wanted("a")), lambda: NOTE)
    one.apply(one.changes({"b": b"1"}, wanted("b")), lambda: NOTE)
    assert kong.seen == [("settle", 1), ("settle", 2)]


def test_a_changed_rule_doesnt_touch_kong() -> None:
    store = MemoryStore()
    kong = Steps(store)
    one = run(store, kong)
    one.apply(one.changes({"a": b"1"}, wanted("a")), lambda: NOTE)
    kong.seen.clear()
    one.apply(one.changes({"a": b"2"}, wanted("a")), lambda: NOTE)
    assert kong.seen == []
    assert store.content() == {"a": b"2"}


def test_nothing_to_do_is_no_new_version() -> None:
    store = MemoryStore()
    one = run(store, Steps(store))
    one.apply(one.changes({"a": b"1"}, wanted("a")), lambda: NOTE)
    changes = one.changes({"a": b"1"}, wanted("a"))
    assert changes.empty
    one.apply(changes, lambda: NOTE)
    assert store.head() == 1


def test_kong_stays_as_it_is_while_a_node_goes_by_the_old_policies() -> None:
    store = MemoryStore()
    kong = Steps(store)
    time = Time(lambda now: store.acknowledge("n1", "1", 1, now))
    one = run(store, kong, time=time)
    one.apply(one.changes({"a": b"1"}, wanted("a")), lambda: NOTE)
    store.acknowledge("n1", "1", 1, time.at)
    with pytest.raises(
        EdgeError, match=r"version 2 is published, and not in force on n1 \(version 1\) after 5 s"
    ):
        one.apply(one.changes({"b": b"1"}, wanted("b")), lambda: NOTE)
    keys = {e.fields["key"] for e in kong.read().values() if e.kind == "keyauth_credentials"}
    assert keys == {"key-a"}
    # The node comes round; a second apply finishes.
    time.meanwhile = lambda now: store.acknowledge("n1", "1", 2, now)
    one.apply(one.changes({"b": b"1"}, wanted("b")), lambda: NOTE)
    keys = {e.fields["key"] for e in kong.read().values() if e.kind == "keyauth_credentials"}
    assert keys == {"key-b"}


def test_somebody_elses_version_in_between_is_an_error() -> None:
    store = MemoryStore()
    one = run(store, Steps(store))
    changes = one.changes({"a": b"1"}, wanted("a"))
    store.publish({"x": b"1"}, expected=0, note=NOTE)
    with pytest.raises(ConflictError):
        one.apply(changes, lambda: NOTE)


def test_a_node_that_dies_meanwhile_isnt_waited_for() -> None:
    store = MemoryStore()
    time = Time(lambda now: store.acknowledge("n2", "1", 2, now))
    store.acknowledge("n1", "1", 1, time.at)
    wait_for_nodes(store, 2, time.clock, lambda _line: None, 60.0)
    assert time.at > 1015.0


def test_a_tenant_whose_record_an_engine_cant_read_is_named_and_the_rest_is_done() -> None:
    store, lines = MemoryStore(), list[str]()
    kong = Steps(store)

    def nodes(now: float) -> None:
        store.acknowledge("n1", "1", store.head(), now)
        store.acknowledge("n2", "1", store.head(), now, ["b"])

    store.acknowledge("n1", "1", 0, 1000.0)
    one = Run(store, [kong], clock=Time(nodes).clock, say=lines.append, timeout_s=5.0)
    for _ in range(2):  # the second has nothing to change, and says so as well
        lines.clear()
        with pytest.raises(EdgeError, match="version 1 isn't in force for 1 tenant, see above"):
            one.apply(one.changes({"a": b"1", "b": b"2"}, wanted("a", "b")), lambda: NOTE)
        assert [line for line in lines if line.startswith("b: not in force on n2, whose engine")]
        assert any("in force on all 2 nodes, but for these tenants" in line for line in lines)
    assert {e.fields["key"] for e in kong.read().values() if e.kind == "keyauth_credentials"} == {
        "key-a",
        "key-b",
    }


def test_no_engine_at_all_is_said() -> None:
    lines: list[str] = []
    wait_for_nodes(MemoryStore(), 1, Time().clock, lines.append, 1.0)
    assert lines == ["no engine has reported a version yet: it takes this one when it starts"]


def test_a_store_that_lost_versions_is_published_anew_above_what_nodes_have() -> None:
    store, kong = MemoryStore(), MemoryDbless(Fuse())
    time = Time(lambda now: store.acknowledge("n1", "1", store.head(), now))
    one = run(store, kong, time=time)
    one.apply(one.changes({"a": b"1"}, wanted("a")), lambda: NOTE)
    store.acknowledge("n1", "1", 7, time.at)  # of before
    changes = one.changes({"a": b"1"}, wanted("a"))
    assert not changes.empty
    assert not changes.records
    one.apply(changes, lambda: NOTE)
    assert store.head() == 8
    assert store.content() == {"a": b"1"}


def test_nodes_that_go_by_a_version_that_the_store_has_lost_are_not_up_to_date() -> None:
    store = MemoryStore()
    time = Time(lambda now: store.acknowledge("n1", "1", 7, now))
    store.acknowledge("n1", "1", 0, time.at)
    store.publish({"a": b"1"}, expected=0, note=NOTE)
    with pytest.raises(EdgeError, match="nodes go by version 7 of before the store was emptied"):
        wait_for_nodes(store, 1, time.clock, lambda _line: None, 60.0)


def test_a_rollback_of_a_store_that_lost_versions_is_above_them() -> None:
    store = MemoryStore()
    store.publish({"a": b"1"}, expected=0, note=NOTE)
    store.publish({"a": b"2"}, expected=1, note=NOTE)
    store.acknowledge("n1", "1", 7, 1000.0)
    assert roll_back(store, 1, expected=2, note=NOTE) == 8
    assert store.content() == {"a": b"1"}


def test_records_that_the_store_has_lost_are_published_again() -> None:
    store = MemoryStore()
    one = run(store, MemoryDbless(Fuse()))
    both = {"a": b"1", "b": b"2"}
    one.apply(one.changes(both, wanted("a", "b")), lambda: NOTE)
    del store.bodies[content_hash(b"2")]
    changes = one.changes(both, wanted("a", "b"))
    assert (changes.records, changes.damaged) == ({"b": b"2"}, {"b"})
    one.apply(changes, lambda: NOTE)
    assert store.content() == both
    assert one.changes(both, wanted("a", "b")).empty
