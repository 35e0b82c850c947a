from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from tenantgate.cli import build_parser
from tenantgate.errors import ConfigError, EdgeError

from support import ROOT

DEMO = str(ROOT / "examples/demo.yaml")
KEYS = {
    "DECK_ACME_API_KEY": "a-key",
    "DECK_GLOBEX_API_KEY": "g-key",
    "DECK_HOOLI_API_KEY": "h-key",
    "DECK_INITECH_API_KEY": "i-key",
    "DECK_STARK_API_KEY": "s-key",
}


def run(*argv: str) -> int:
    args = build_parser().parse_args(argv)
    status: int = args.func(args)
    return status


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = tmp_path / "right.yaml"
    right.write_text(
        "version: 1\ndefaults: {}\ntenants:\n"
        + "".join(f"  - {{id: {t}, api_keys: ['${{{{ env \"DECK_{t}\" }}}}']}}\n" for t in "ab")
    )
    assert run("validate", "-f", str(right)) == 0
    assert capsys.readouterr().out == f"{right}: 2 tenants, 1 model, no problems\n"
    wrong = tmp_path / "t.yaml"
    wrong.write_text("version: 1\ntenans: []\n")
    assert run("validate", "-f", str(wrong)) == 1
    assert f"{wrong}:2: tenans: unknown field" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", ["--postgres", "--set=a=b", "--prefix=/k", "--attach=tenant-guardrails", "--sockets=/run/x"]
)
def test_an_option_of_kong_conf_isnt_ignored_where_a_kong_yml_is_written(given: str) -> None:
    with pytest.raises(ConfigError, match=f"{given.partition('=')[0]}: needs --kong-conf"):
        run("render", DEMO, given)


def test_the_file_may_be_named_without_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", DEMO) == 0
    assert "no problems" in capsys.readouterr().out
    used = tmp_path / "kong.yml"
    assert run("render", DEMO, "-o", str(used)) == 0
    assert run("diff", DEMO, str(used)) == 0
    assert run("diff", "-f", DEMO, str(used)) == 0
    with pytest.raises(ConfigError, match="--file"):
        run("validate", DEMO, "-f", DEMO)
    monkeypatch.chdir(tmp_path)
    Path("tenants.yaml").write_text(Path(DEMO).read_text())
    assert run("validate") == 0
    assert run("diff", "kong.yml") == 0


def test_render_says_that_a_mock_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "-f", DEMO, "--mock-url", "http://m:1/x", "--redis", "r:2") == 0
    out, err = capsys.readouterr()
    assert "http://m:1/x" in err
    assert "host: r" in out
    assert "mock provider answers for acme, globex, hooli, initech" in err


def test_resolved_secrets_are_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "kong.yml"
    out.write_text("older")
    out.chmod(0o644)
    assert run("render", "-f", DEMO, "--resolve-env", "-o", str(out)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "key: a-key" in out.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["kong.yml"]
    also = tmp_path / "kong.json"
    assert run("render", "-f", DEMO, "--resolve-env", "-o", str(also)) == 0
    assert stat.S_IMODE(also.stat().st_mode) == 0o600
    assert json.loads(also.read_text()) == yaml.safe_load(out.read_text())
    for rendered in (out, also):
        assert run("diff", "-f", DEMO, "--resolve-env", "--text", str(rendered)) == 0


def test_missing_secrets_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=", ".join(KEYS)):
        run("render", "-f", DEMO, "--resolve-env")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No such file"):
        run("render", "-f", DEMO, "-o", str(tmp_path / "no" / "kong.yml"))


def test_kong_conf_that_makes_an_egress_list_worthless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(DEMO).read_text().replace("gateway:\n", "gateway:\n  egress: {allow: [a.example]}\n")
    (tmp_path / "t.yaml").write_text(text)
    weak = ["render", "-f", str(tmp_path / "t.yaml"), "--kong-conf", "--set", "ssl_cipher_suite=old"]
    with pytest.raises(ConfigError, match=r"--set ssl_cipher_suite: .* tenants.yaml has gateway.egress"):
        run(*weak)
    assert run("render", "-f", DEMO, *weak[3:]) == 0


def test_kong_conf(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "-f", DEMO, "--kong-conf", "--prefix", "/tmp/p", "--set", "nginx_user=root") == 0
    out = capsys.readouterr().out
    assert "prefix = /tmp/p\n" in out
    assert "nginx_user = root\n" in out
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        run("render", "-f", DEMO, "--kong-conf", "--set", "x")


def test_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kong_yml = tmp_path / "kong.yml"
    run("render", "-f", DEMO, "-o", str(kong_yml))
    assert run("diff", "-f", DEMO, str(kong_yml)) == 0
    kong_yml.write_text(kong_yml.read_text().replace("payload_size: 4", "payload_size: 6"))
    assert run("diff", "-f", DEMO, "--text", str(kong_yml)) == 1
    out = capsys.readouterr().out
    assert "config.allowed_payload_size: 6 -> 4" in out
    assert "+          allowed_payload_size: 4" in out


def test_diff_of_a_wrong_file_is_no_difference(tmp_path: Path) -> None:
    wrong = tmp_path / "t.yaml"
    wrong.write_text("version: 1\n")
    assert run("diff", "-f", str(wrong), DEMO) == 2
    with pytest.raises(ConfigError, match="can't be read"):
        run("diff", "-f", DEMO, str(tmp_path / "none.yml"))


def test_schema(tmp_path: Path) -> None:
    assert run("schema", "-o", str(tmp_path / "s.json")) == 0
    assert (tmp_path / "s.json").read_text().startswith('{\n  "$schema"')


def test_ones_own_kong_yml_gets_ours_and_then_comes_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "kong.yml"
    own.write_text(
        "_format_version: '3.0'\nservices: [{name: shop, url: 'http://shop', tags: [2024-01-01]}]\n"
    )
    assert run("diff", "-f", DEMO, str(own)) == 1
    assert run("render", "-f", DEMO, "--into", str(own), "-o", str(own)) == 0
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert run("diff", "-f", DEMO, str(own)) == 0
    said = capsys.readouterr()
    assert said.out.endswith("no changes\n")
    assert "left out, without the tag tenantgate: 1" in said.err
    assert "name: shop" in own.read_text()
    own.write_text(own.read_text().replace("name: llm.models", "name: llm.others"))
    assert run("diff", "-f", DEMO, str(own)) == 1
