from __future__ import annotations

import subprocess
import sys

import pytest

from tenantgate import __version__, cli
from tenantgate.errors import ConfigError


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tenantgate {__version__}\n"


def test_every_area_offers_its_commands() -> None:
    text = cli.build_parser().format_help()
    for command in ("validate", "render", "diff", "schema", "up", "cache", "models", "docs"):
        assert command in text


def test_an_error_of_ours_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_args: object) -> int:
        raise ConfigError("tenants.yaml:3: tenants[0].id: required")

    parser = cli.argparse.ArgumentParser()
    parser.set_defaults(func=fail)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "error: tenants.yaml:3: tenants[0].id: required\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from tenantgate.cli import build_parser\n"
        "build_parser()\n"
        "heavy = {'numpy', 'onnxruntime', 'onnx', 'redis', 'tokenizers', 'aiohttp', 'gevent', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
