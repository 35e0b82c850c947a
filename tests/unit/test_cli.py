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
        assert f"\n    {command} " in text


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


def loaded(*argv: str) -> set[str]:
    """The modules that a command has loaded at its end, which ``--help`` is."""
    code = "import sys, tenantgate.cli\ntry: tenantgate.cli.main()\nfinally: print('loaded', *sys.modules)"
    command = [sys.executable, "-c", code, *argv, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\nloaded ")[2].split())


def test_help_loads_no_commands_and_no_libraries() -> None:
    found = loaded()
    assert "tenantgate.guard.manifest" in found
    assert not {"asyncio", "kong_pdk", "numpy", "onnxruntime", "re2", "redis", "tokenizers", "yaml"} & found
    assert not {"tenantgate.config", "tenantgate.kong", "tenantgate.pii", "tenantgate.telemetry"} & found
    assert not {name for name in found if name.endswith(("commands", ".service"))}


def test_a_command_loads_no_other_commands() -> None:
    assert {name for name in loaded("validate") if name.endswith("commands")} == {
        "tenantgate.config.commands"
    }
