"""Requests in flight, counted in a file that the processes of a node share."""

from __future__ import annotations

from pathlib import Path

from tenantgate.routing.in_flight import InFlight


def test_requests_in_flight_are_counted_by_all_processes_of_a_node(tmp_path: Path) -> None:
    one, other = InFlight(tmp_path / "in-flight"), InFlight(tmp_path / "in-flight")
    slots = [one.begin(7, until=100.0, now=0.0) for _ in range(3)] + [other.begin(9, until=10.0, now=0.0)]
    assert len(set(slots)) == 4
    assert one.counts([7, 9, 8], now=0.0) == [3, 1, 0]
    other.end(slots[0], 7)
    other.end(slots[1], 8)  # another one's by now
    assert one.counts([7, 9], now=11.0) == [2, 0]
    assert (tmp_path / "in-flight").stat().st_mode & 0o777 == 0o600


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "in-flight").symlink_to(tmp_path / "target")
    assert InFlight(tmp_path / "in-flight").counts([1], now=0.0) == [0]
    assert (tmp_path / "target").read_bytes() == b"mine"
