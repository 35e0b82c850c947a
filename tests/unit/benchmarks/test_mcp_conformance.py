"""What MCP's conformance suite asks for that doesn't apply stands in the documentation as in the program."""

from __future__ import annotations

import subprocess
import sys

from support import ROOT


def test_the_documentation_says_what_is_left_out() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "mcp_conformance.py"), "--table"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert table in (ROOT / "docs" / "mcp-serving.md").read_text("utf-8")
