from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.telemetry import needs

EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from([True, False, None])))


@given(EVENTS)
def test_a_thing_is_missing_while_one_of_its_owners_misses_it(
    events: list[tuple[str, int, bool | None]],
) -> None:
    last: dict[tuple[str, int], bool] = {}
    try:
        for what, owner, there in events:
            if there is None:
                needs.forget(f"test-{what}", owner=owner)
                last.pop((what, owner), None)
            else:
                needs.tell(f"test-{what}", there=there, owner=owner)
                last[what, owner] = there
            found = {name for name in needs.missing() if name.startswith("test-")}
            assert found == {f"test-{name}" for (name, _), there in last.items() if not there}
    finally:
        for what in "abc":
            for owner in range(3):
                needs.forget(f"test-{what}", owner=owner)
