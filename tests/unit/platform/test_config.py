from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tenantgate import cli
from tenantgate.config import TenantsFileError, load_text
from tenantgate.platform.document import document

FILE = """
version: 1
gateway:
  platform: {{{platform}}}
{more}
tenants:
  - id: acme
    api_keys: ['${{{{ env "DECK_ACME" }}}}']
"""
GOOD = "url: https://platform.example, token: '{vault://env/TOKEN}'"


def problems(platform: str, more: str = "") -> list[str]:
    try:
        load_text(FILE.format(platform=platform, more=more))
    except TenantsFileError as error:
        return [problem.split(": ", 1)[1] for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("platform", "more", "problem"),
    [
        (GOOD, "", None),
        ("poll_s: 5", "", None),
        ("url: http://127.0.0.1:8197, token: '{vault://env/TOKEN}'", "", None),
        ("url: https://platform.example", "", "gateway.platform.token: required"),
        (
            "url: http://platform.example, token: '{vault://env/TOKEN}'",
            "",
            "gateway.platform.url: http sends",
        ),
        ("url: 'https://u:p@platform.example', token: '{vault://env/TOKEN}'", "", "gateway.platform.url: "),
        (
            "url: https://platform.example, token: plain",
            "",
            "gateway.platform.token: a secret given as a plain",
        ),
        (
            f"{GOOD}, on_stale: open",
            "",
            "gateway.platform.on_stale: 'open' is not one of keep, tighten, closed",
        ),
        (f"{GOOD}, tighten_to: 2", "", "gateway.platform.tighten_to: 2.0 is outside 0 to 1"),
        (f"{GOOD}, listen: '0.0.0.0:99999'", "", "gateway.platform.listen: there is no such port"),
        (GOOD, "  egress: {allow: [platform.example]}", None),
        (
            GOOD,
            "  egress: {allow: [other.example.org]}",
            "gateway.platform.url: https://platform.example isn't in gateway.egress.allow",
        ),
    ],
)
def test_the_section_is_checked_as_a_whole(platform: str, more: str, problem: str | None) -> None:
    found = problems(platform, more)
    assert len(found) == (problem is not None)
    assert problem is None or found[0].startswith(problem)


def test_the_document_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["platform", "openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(document()))


@pytest.mark.parametrize("action", ["pull", "status", "serve"])
def test_without_a_platform_the_commands_say_so(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(FILE.format(platform="poll_s: 5", more=""))
    assert cli.main(["platform", action, str(file)]) == 2
    assert "gateway.platform.url: required" in capsys.readouterr().err


def test_the_mock_needs_a_token_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENANTGATE_PLATFORM_TOKEN", raising=False)
    assert cli.main(["platform-mock"]) == 2
    assert "the environment has no TENANTGATE_PLATFORM_TOKEN" in capsys.readouterr().err


def test_the_mirror_needs_no_aiohttp() -> None:
    code = "import sys, tenantgate.platform.commands; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
