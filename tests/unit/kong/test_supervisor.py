"""When a plugin server counts as hanging."""

from __future__ import annotations

import pytest

from tenantgate.kong.child import HANG_S, hangs


@pytest.mark.parametrize(
    ("silent_s", "used_s", "expected"),
    [
        (HANG_S, 0.0, False),
        (HANG_S + 0.1, 0.0, True),  # asleep: a deadlock
        (HANG_S + 0.1, 0.05, True),  # its threads only ask for Python's lock
        (HANG_S + 0.1, 1.0, False),  # at work on something that holds Python's lock
        (1.7, 1.7, True),  # spins
        (HANG_S + 0.1, 0.1, False),  # others have the processors
        (4.9, 0.4, False),
        (5.1, 0.4, True),  # patience has an end
        (HANG_S + 0.1, None, True),  # no /proc
    ],
)
def test_a_silent_server_hangs_unless_it_only_gets_too_little_time(
    silent_s: float, used_s: float | None, expected: bool
) -> None:
    assert hangs(silent_s, used_s) is expected
