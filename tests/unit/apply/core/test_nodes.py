from __future__ import annotations

from tenantgate.apply.core.nodes import LIVE_S, behind, lines, live
from tenantgate.policy.core.ports import Acknowledgement

NOW = 1000.0


def said(node: str, version: int, at: float = NOW, process: str = "1") -> Acknowledgement:
    return Acknowledgement(node, process, version, at)


def test_who_said_nothing_for_a_while_doesnt_run() -> None:
    silent = said("b", 1, NOW - LIVE_S - 1)
    assert live([said("a", 1), silent], now=NOW) == [said("a", 1)]


def test_a_node_whose_clock_is_wrong_runs_if_it_says_something_again() -> None:
    before, after = said("b", 1, 10.0), said("b", 1, 15.0)
    assert live([before], now=NOW, first=[before]) == []
    assert live([after], now=NOW, first=[before]) == [after]


def test_a_node_is_behind_by_its_slowest_process() -> None:
    found = [said("a", 3), said("a", 2, process="2"), said("b", 3), said("c", 1), said("c", 2, process="2")]
    assert behind(found, 3) == ["a (version 2)", "c (version 1)"]
    assert behind(found, 1) == []


def test_the_lines_of_a_status() -> None:
    gone = NOW - LIVE_S - 85
    found = [
        said("a", 3),
        said("a", 3, process="2"),
        said("a", 2, process="3"),
        said("a", 1, gone, process="4"),  # of before a restart
        said("b", 3),
        said("c", 1, gone - 9),
        said("c", 2, gone, process="2"),
    ]
    assert lines(found, now=NOW) == [
        "a  version 3  2 processes",
        "a  version 2  1 process",
        "b  version 3  1 process",
        "c  version 2  not running, last heard 100 s ago",
    ]
