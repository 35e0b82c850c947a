"""Plugin files and `--dump`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Launched

PLUGINS = Path(__file__).parent / "plugins"


def dump(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantgate.kong.launcher", "--plugin", str(path), "--dump"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_dump_prints_only_json_whatever_the_plugin_prints() -> None:
    done = dump(PLUGINS / "noisy.py")
    assert done.returncode == 0
    (found,) = json.loads(done.stdout)
    assert (found["Name"], found["Priority"], found["Version"], found["Phases"]) == (
        "noisy",
        1,
        "0.1.0",
        ["access"],
    )
    assert all(x in done.stderr for x in ("printed", "written", "to the descriptor", "from a child"))


def test_dump_describes_the_schema() -> None:
    (found,) = json.loads(dump(PLUGINS / "well-behaved.py").stdout)
    (config,) = found["Schema"]["fields"]
    assert found["Schema"]["name"] == "well-behaved"
    assert config["config"]["type"] == "record"
    assert [next(iter(f)) for f in config["config"]["fields"]] == ["on_error", "mode", "deadline_ms"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no class Plugin"),
        ("class Plugin:\n  pass\npriority=1\nversion='1.0.0'", "no phase"),
        ("class Plugin:\n  def access(self, k): ...\nversion='1.0.0'", "priority"),
        ("class Plugin:\n  def access(self, k): ...\npriority=True\nversion='1.0.0'", "priority"),
        ("class Plugin:\n  def access(self, k): ...\npriority=1\nversion='1'", "version"),
        ("1/0", "ZeroDivisionError at p.py:1"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("syntax error", "SyntaxError"),
        (
            "Schema=[object()]\nclass Plugin:\n  def access(self, k): ...\npriority=1\nversion='1.0.0'",
            "TypeError",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_told_on_stderr(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "p.py"
    path.write_text(text)
    done = dump(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr


def test_dump_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tenantgate.kong.launcher import main; main(sys.argv[1:]); "
        "heavy = {'numpy', 'onnxruntime', 'redis', 'gevent', 'yaml', 'aiohttp', 'cryptography'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "--plugin", str(PLUGINS / "well-behaved.py"), "--dump"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_plugin_named_like_a_module_shadows_nothing(launch: Callable[..., Launched]) -> None:
    server = launch("redis", "--no-supervise")
    with server.client() as kong:
        server.eventually(server.socket.exists)
        instance = kong.start_instance("redis", {"url": "redis://x"})
        assert kong.handle_event(instance, "access") == [
            ("kong.response.set_header", "x-client", "Redis redis://x")
        ]


def test_wrong_options_are_told() -> None:
    command = [sys.executable, "-m", "tenantgate.kong.launcher", "--plugin", "/nowhere/p.py"]
    assert (
        "--socket is required" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    )
    done = subprocess.run([*command, "--socket", "/nowhere/s"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: plugin: no file /nowhere/p.py\n")
    plugin = str(PLUGINS / "noisy.py")
    command = [
        sys.executable,
        "-m",
        "tenantgate.kong.launcher",
        "--plugin",
        plugin,
        "--socket",
        "/tmp/" + "x" * 120,
    ]
    assert "over 107 bytes" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
