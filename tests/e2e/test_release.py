"""The wheel, installed into an environment of its own: init, up, a request, from an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tenantgate.devhost.client import Client

from support import ROOT, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_all_that_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("src/tenantgate", "tenantgate"), ("plugins", "tenantgate/_plugins")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(ROOT / folder)}" in names


def test_from_an_empty_folder_to_an_answer(wheel: Path, tmp_path: Path) -> None:
    venv, folder = tmp_path / "venv", tmp_path / "new"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    # Its packages are the checkout's, since tests download nothing; Tenantgate itself is the wheel's.
    (site,) = venv.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    folder.mkdir()
    command = str(venv / "bin" / "tenantgate")
    where = subprocess.run(
        [python, "-I", "-c", "import tenantgate; print(tenantgate.__file__)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(site))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTGATE_PLUGINS", "PYTHON"))}
    subprocess.run([command, "init"], cwd=folder, env=environ, check=True, capture_output=True)
    with subprocess.Popen(
        [command, "up", "--port", "0", "--mock-latency-ms", "0"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        try:
            assert up.stdout is not None
            lines: list[str] = []

            def address() -> str | None:
                assert up.stdout is not None
                lines.append(up.stdout.readline())
                assert lines[-1], "".join(lines)
                found = re.search(r"gateway .* at (http://\S+)", lines[-1])
                return found[1] if found else None

            url = until(address, lambda found: found is not None, what="start")
            listed = [up.stdout.readline() for _ in range(4)]
            assert any("fast, mock-small" in line for line in listed), listed
            key = json.loads((folder / ".tenantgate" / "secrets.json").read_text())["DECK_ACME_API_KEY"]
            client = Client(f"{url}/v1/chat/completions", key, "fast")
            reply = client.chat("Who pays?", model=client.model)
            assert (reply.status, reply.headers["x-cache-status"]) == (200, "Miss")
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0
