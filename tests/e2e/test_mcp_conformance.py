"""MCP's own conformance suite against a generated server: without a network, where `make mcp-conformance` has run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCRIPT = ROOT / "benchmarks" / "mcp_conformance.py"
NODE_LEAST = 22


def _node() -> str:
    node = os.environ.get("NODE") or shutil.which("node")
    if node is None:
        pytest.skip("no node: the suite needs Node 22 (NODE=/path/to/node)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < NODE_LEAST:
        pytest.skip(f"node is {version.strip()}: the suite needs Node 22 (NODE=/path/to/node)")
    return node


def _packages() -> Path:
    folder = Path(os.environ.get("MCP_CONFORMANCE") or Path(sys.prefix) / "mcp-conformance")
    if not any(folder.glob("*/node_modules/@modelcontextprotocol/conformance/dist/index.js")):
        pytest.skip(f"no @modelcontextprotocol/conformance in {folder}: `make mcp-conformance` installs it")
    return folder


def test_each_scenario_that_applies_passes(request: pytest.FixtureRequest) -> None:
    command = [sys.executable, str(SCRIPT), "--node", _node(), "--packages", str(_packages()), "--offline"]
    if kong := request.config.getoption("--kong-bin"):
        command += ["--kong-bin", kong]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(re.findall(r"^ +passed ", found.stdout, re.MULTILINE)) > 20
