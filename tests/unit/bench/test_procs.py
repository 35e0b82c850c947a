"""Processor time, memory, threads and files by role."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantgate.bench import procs

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_work_shows_as_processor_time() -> None:
    before = procs.sample({"me": [os.getpid()]})
    while procs.spent(before, procs.sample({"me": [os.getpid()]}))["me"] < 0.03:
        sum(range(100_000))


def test_a_process_has_memory_threads_and_files() -> None:
    usage = procs.sample({"me": [os.getpid()]})["me"]
    assert usage.rss_mb > 5
    assert usage.threads >= 1
    assert usage.files >= 3


def test_roles_add_their_processes_up() -> None:
    usage = procs.sample({"one": [os.getpid()], "both": [os.getpid(), os.getpid()]})
    assert usage["both"].threads == 2 * usage["one"].threads


def test_a_process_that_ended_counts_as_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert procs.sample({"gone": [done.pid]}) == {"gone": procs.Usage()}
    assert procs.spent({"gone": procs.Usage(cpu_s=2.0)}, {"gone": procs.Usage()}) == {"gone": 0.0}
