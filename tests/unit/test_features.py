"""A feature is a folder and a line in `tenantgate.features`: shown with one that isn't the project's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tenantgate import cli, features, paths
from tenantgate.config import KongConfOptions, TenantsFileError, docs, kong_conf, load_text
from tenantgate.config.compile import compile_records
from tenantgate.config.json_schema import json_schema
from tenantgate.kong.loading import load
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.manifest import resolve
from tenantgate.policy.core.records import read_record

from support import ROOT

GREETING: Final = {
    "greeting/__init__.py": '"""Greetings: a header with a word for each tenant."""',
    "greeting/config.py": '''
from collections.abc import Iterator

from tenantgate.fields import config_class, field


@config_class
class GreetingConfig:
    """Settings of one route's greeting."""

    word: str = field("The greeting's word, as the client gets it.", default="hello", len_max=20)
    loud: bool = field("Whether the word is written in capitals.", default=False)
    route: str = field("The name of the route, for the header's end.", default="")
    on_error: str = field("What happens without a greeting.", default="pass", one_of=("pass", "reject"))

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems between the fields."""
        if self.loud and self.word.isupper():
            yield "word", "is in capitals already; loud has no effect"
''',
    "greeting/manifest.py": """
from greeting.config import GreetingConfig

from tenantgate.manifest import Command, Feature, PluginManifest

GREETING = PluginManifest(
    name="tenant-greeting",
    section="greeting",
    description="The tenant-greeting plugin.",
    priority=797,
    phases=("access",),
    config_class=GreetingConfig,
    service="greeting.service:Greeting",
    filled={"route": lambda settings: settings.route},
)
FEATURE = Feature(
    plugins=(GREETING,),
    commands=(Command(name="greet", help="print a greeting", adds="greeting.commands:greet"),),
)
""",
    "greeting/service.py": """
from greeting.config import GreetingConfig

from tenantgate.kong import Host


class Greeting:
    def __init__(self, config: GreetingConfig) -> None:
        self._config = config

    def access(self, host: Host) -> None:
        word = self._config.word.upper() if self._config.loud else self._config.word
        host.set_headers({"X-Greeting": f"{word} from {self._config.route}"})
""",
    "greeting/commands.py": '''
import argparse

from greeting.config import GreetingConfig


def greet(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``greet``."""
    parser.add_argument("--word", default=GreetingConfig().word)
    parser.set_defaults(func=lambda args: print(args.word))
''',
    "plugins/tenant-greeting.py": '''
"""tenant-greeting: a header with a word for each tenant."""

from __future__ import annotations

from greeting.config import GreetingConfig
from greeting.manifest import GREETING

from tenantgate import __version__
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, GREETING.priority, kong_fields(GREETING.config_class)


class Plugin(TenantPlugin[GreetingConfig], manifest=GREETING):
    """One configured instance."""
''',
}

TENANTS: Final = """
version: 1
defaults: {greeting: {word: hi}, cache: {}}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    greeting:
      loud: true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The feature's folder, and the one line that the project needs of it."""
    for name, text in GREETING.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, "greeting"))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "greeting"]:
        del sys.modules[name]


def test_its_section_is_checked_and_is_a_stage_of_the_tenants_model(folder: Path) -> None:
    (model,) = read_record("acme", compile_records(load_text(TENANTS))["acme"]).models
    assert set(model.stages) == {"greeting", "cache"}
    # The route's name comes from the engine.
    assert model.stages["greeting"] == {"loud": True, "word": "hi"}
    with pytest.raises(TenantsFileError) as caught:
        load_text(TENANTS.replace("word: hi", "word: HI"))
    assert caught.value.problems[0].startswith(
        "tenants.yaml:3: defaults.greeting: word: is in capitals already"
    )
    with pytest.raises(TenantsFileError, match=r"tenants.yaml:8: .*: unknown field; did you mean 'loud'"):
        load_text(TENANTS.replace("loud:", "lowd:"))
    with pytest.raises(TenantsFileError, match="is filled in from `gateway`"):
        load_text(TENANTS.replace("loud: true", "route: r"))


def test_kong_starts_its_server(folder: Path) -> None:
    text = kong_conf(KongConfOptions(attached=("tenant-greeting",)))
    lines = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    assert "tenant-greeting" in lines["plugins"].split(",")
    assert lines["pluginserver_tenant_greeting_query_cmd"].endswith("tenant-greeting.py --dump")


def test_its_plugin_is_described_to_kong_and_runs(folder: Path) -> None:
    path = folder / "plugins" / "tenant-greeting.py"
    command = [sys.executable, "-m", "tenantgate.kong.launcher", "--plugin", str(path), "--dump"]
    environ = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    (found,) = json.loads(done.stdout)
    assert (found["Name"], found["Priority"], found["Phases"]) == ("tenant-greeting", 797, ["access"])
    (config,) = found["Schema"]["fields"]
    assert [next(iter(field)) for field in config["config"]["fields"]] == [
        "word",
        "loud",
        "route",
        "on_error",
    ]

    kong = FakeKong()
    kong.run(load(path).plugin({"word": "hi", "route": "r"}), "access")
    assert kong.calls == [("kong.response.set_headers", {"X-Greeting": "hi from r"})]
    for on_error, methods in (("pass", []), ("reject", ["ctx.shared.get", "response.exit"])):
        kong = FakeKong()
        kong.run(load(path).plugin({"word": "HI", "loud": True, "on_error": on_error}), "access")
        assert kong.methods() == methods


def test_editors_and_readers_know_its_fields(folder: Path) -> None:
    schema = json.loads(json_schema())
    assert list(schema["$defs"]["greeting"]["properties"]) == ["enabled", "word", "loud", "on_error"]
    assert schema["$defs"]["Tenant"]["properties"]["greeting"] == {"$ref": "#/$defs/greeting"}
    assert "### `greeting`\n\nThe tenant-greeting plugin. Allowed in `defaults`" in docs.tables()
    copy = folder / "docs"
    shutil.copytree(ROOT / "docs", copy)
    page = copy / "plugins" / "tenant-greeting.md"
    page.write_text("<!-- fields -->\n<!-- /fields -->\n")
    assert (
        "| `word` | text | `hello` | The greeting's word, as the client gets it. |"
        in docs.generated(copy)[page]
    )


def test_its_command_is_one_of_tenantgates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "print a greeting" in cli.build_parser().format_help()
    assert "greeting.commands" not in sys.modules
    assert cli.main(["greet", "--word", "hey"]) == 0
    assert capsys.readouterr().out == "hey\n"


def test_a_plugin_file_with_another_plugins_manifest_is_refused(folder: Path) -> None:
    path = folder / "plugins" / "tenant-farewell.py"
    path.write_text((folder / "plugins" / "tenant-greeting.py").read_text())
    with pytest.raises(Exception, match="its manifest is that of tenant-greeting"):
        load(path)


# -- the project's own


def test_every_reference_of_a_manifest_is_there() -> None:
    found = []
    for feature in features.features():
        found += [*(command.adds for command in feature.commands), *feature.documents.values()]
        for plugin in feature.plugins:
            found += [*plugin.closing.values(), plugin.inspects, plugin.journal and plugin.journal.fields]
            assert all(callable(getattr(resolve(plugin.service), phase)) for phase in plugin.phases)
    assert all(resolve(reference) is not None for reference in found if reference)


def test_every_plugin_has_its_file_and_a_name_a_section_and_a_priority_of_its_own() -> None:
    plugins = features.plugins()
    for plugin in plugins:
        loaded = load(paths.plugin_file(plugin.name))
        assert loaded.plugin.manifest is plugin
        assert (loaded.priority, set(loaded.phases)) == (plugin.priority, set(plugin.phases))
        assert plugin.hidden <= set(plugin.config_class.__dataclass_fields__)
    assert {path.stem for path in paths.plugins_dir().glob("*.py")} == {
        "tenantgate",
        *(p.name for p in plugins),
    }
    for taken in ({p.name for p in plugins}, {p.section for p in plugins}, {p.priority for p in plugins}):
        assert len(taken) == len(plugins)


def test_a_stage_of_the_engine_is_no_plugin_of_kongs() -> None:
    plugins, stages = features.plugins(), features.stages()
    assert [s.name for s in stages if s not in plugins] == ["tenant-rate-limits", "tenant-transform"]
    assert [s for s in stages if s.attachable] == list(plugins)
    assert [s.priority for s in stages] == sorted((s.priority for s in stages), reverse=True)
    assert len({s.section for s in stages}) == len({s.name for s in stages}) == len(stages)
    assert "limits" not in features.by_section()
    assert "transform" in features.by_section()
    assert "tenant-transform" not in kong_conf()
    assert "tenant-rate-limits" not in kong_conf()
    with pytest.raises(TenantsFileError, match="limits: unknown field"):
        load_text(TENANTS.replace("greeting:", "limits:"))


def test_kong_reads_a_plugins_schema_without_what_its_requests_need() -> None:
    code = "import sys, pathlib; from tenantgate.kong.loading import load\n"
    code += "for path in sys.argv[1:]: load(pathlib.Path(path))\nprint(*sys.modules)"
    files = map(str, paths.plugins_dir().glob("*.py"))
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert "tenantgate.guard.manifest" in found
    assert not {"numpy", "onnxruntime", "re2", "redis", "tokenizers", "yaml", "tenantgate.pii"} & found
    assert not {name for name in found if name.endswith((".service", ".commands"))}


KEY: Final = {"encryption_key": "k" * 32}
ALERT: Final = {"name": "s", "detector": "secrets", "target": "concatenate_all_content"}
BLOCK: Final = {**ALERT, "mode": "block"}
REPLY: Final = {**BLOCK, "target": "reply"}
PIPELINE: Final = {"journal": "/j", "state_dir": "/s"}


@pytest.mark.parametrize(
    ("name", "config", "good", "policy"),
    [
        ("tenant-guardrails", {}, True, PhasePolicy(deadline_ms=1000)),
        ("tenant-guardrails", {"rules": [BLOCK]}, True, PhasePolicy(reject=True, deadline_ms=1000)),
        ("tenant-guardrails", {"rules": [BLOCK], "on_error": "pass"}, True, PhasePolicy(deadline_ms=1000)),
        # Rules in alert never stop a request, not even where they don't fit together.
        ("tenant-guardrails", {"rules": [ALERT, ALERT]}, False, PhasePolicy(deadline_ms=1000)),
        ("tenant-guardrails", {"rules": [BLOCK, BLOCK]}, False, PhasePolicy(reject=True, deadline_ms=1000)),
        ("tenant-guardrails", {"rules": 7, "on_error": "reject"}, False, PhasePolicy(reject=True)),
        ("tenant-response-guardrails", {}, True, PhasePolicy(deadline_ms=1000)),
        ("tenant-response-guardrails", {"rules": [REPLY]}, True, PhasePolicy(reject=True, deadline_ms=1000)),
        ("tenant-semantic-cache", KEY, True, PhasePolicy(deadline_ms=250)),
        (
            "tenant-semantic-cache",
            {**KEY, "on_error": "reject"},
            True,
            PhasePolicy(reject=True, deadline_ms=250),
        ),
        ("tenant-semantic-cache", {"on_error": "reject"}, False, PhasePolicy(reject=True)),
        ("tenant-prompt-compressor", {}, True, PhasePolicy()),
        (
            "tenant-prompt-compressor",
            {"stop_on_error": True, "deadline_ms": 5},
            True,
            PhasePolicy(reject=True),
        ),
        ("tenant-prompt-compressor", {"log_text_data": True}, False, PhasePolicy()),
        ("tenant-audit-log", {**KEY, "pipeline": PIPELINE}, True, PhasePolicy(deadline_ms=50)),
        (
            "tenant-audit-log",
            {**KEY, "pipeline": PIPELINE, "headers": ["Cookie"]},
            False,
            PhasePolicy(deadline_ms=50),
        ),
    ],
)
def test_a_failure_does_to_a_request_what_the_configuration_says(
    name: str, config: dict[str, Any], good: bool, policy: PhasePolicy
) -> None:
    plugin = load(paths.plugin_file(name)).plugin(config)
    assert (plugin.config_error is None) is good
    assert plugin.policy == policy


def test_the_contracts_name_every_feature() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independent,) = (c["modules"] for c in contracts if c["type"] == "independence")
    assert set(independent) == set(features.FEATURES)
    for contract in contracts:
        for modules in (contract.get(key, ()) for key in ("source_modules", "forbidden_modules")):
            named: set[Any] = {name for name in modules if name in features.FEATURES}
            assert named in (set(), set(features.FEATURES)), contract["name"]
            cores = {name.removesuffix(".core") for name in modules if name.endswith(".core")}
            assert not cores or cores >= set(features.FEATURES), contract["name"]
