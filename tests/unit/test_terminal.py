"""What names hold steers no terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.terminal import plain


@given(st.text(st.sampled_from("a\x1b[2J]0;\x07\r\x9b\x08\u202e\n\tü漢1m")))
def test_nothing_but_text_lines_and_colours_is_left(text: str) -> None:
    shown = plain(text)
    assert len(shown) == len(text)
    bare = shown.replace("\x1b[", "")
    assert all(c in "\n\t" or c.isprintable() for c in bare)
    assert plain(shown) == shown


def test_a_command_shows_a_strangers_name_as_text(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    code = "from tenantgate import cli; raise SystemExit(cli.main(['validate', '\\x1b[2J\\x9b0c.yaml']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=child, stderr=child, cwd=tmp_path, check=False)
    os.close(child)
    said = os.read(parent, 65536)
    os.close(parent)
    assert done.returncode == 2
    assert b"?[2J?0c.yaml" in said
    assert b"\x1b" not in said
