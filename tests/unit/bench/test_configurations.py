"""What is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tenantgate import config, features
from tenantgate.bench import configurations
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.config.compile import compile_records
from tenantgate.errors import ConfigError
from tenantgate.policy.core.records import CATALOG, read_record

from support import ROOT

PROJECT = ROOT / "benchmarks" / "configurations"
CACHE = "title: the cache\nsections: {cache: {cache_ttl: 60}}\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def by_name(folder: Path | None) -> dict[str, Configuration]:
    return {c.name: c for c in configurations.read(folder)[0]}


def test_the_projects_configurations_measure_each_plugin_alone_and_then_all() -> None:
    found = by_name(PROJECT)
    alone = {s for c in found.values() if len(c.sections) == 1 for s in c.sections}
    assert alone == set(features.by_section())
    assert list(found)[-2:] == ["all", "all_and_replies"]
    alone.remove("transform")  # no plugin, and its defaults change nothing
    assert set(found["all_and_replies"].sections) == alone
    assert set(found["all"].sections) == alone - {"response_guardrails"}


def test_the_projects_configurations_can_be_loaded_and_rendered() -> None:
    for configuration in by_name(PROJECT).values():
        file = config.load_text(configurations.tenants_yaml([configuration], 2))
        assert config.render(file)
        for name, record in compile_records(file).items():
            if name != CATALOG:
                (model,) = read_record(name, record).models
                assert set(configuration.sections) <= set(model.stages)


def test_one_gateway_serves_several_configurations_and_the_bare_route() -> None:
    file = config.load_text(configurations.tenants_yaml([BARE, *by_name(None).values()], 3))
    assert [t.id for t in file.tenants][:4] == [
        "bare-0",
        "bare-1",
        "bare-2",
        next(iter(by_name(None))) + "-0",
    ]
    assert file.tenants[0].plugins == {}


def test_the_bare_route_has_kongs_own_plugins_as_those_beside_the_engine_are_set() -> None:
    bare = configurations.bare_service("http://mock")
    assert [r["paths"] for r in bare["routes"]] == [[configurations.BARE_PATH]]
    ours = yaml.safe_load(config.render(config.load_text(configurations.tenants_yaml([BARE], 1))))[
        "services"
    ][0]
    rendered = {p["name"]: p["config"] for p in ours["plugins"]}
    own = {p["name"]: p["config"] for p in bare["plugins"]}
    assert own.keys() == {"key-auth", "ai-proxy", "post-function"}
    assert own["key-auth"] == rendered["key-auth"]
    assert own["ai-proxy"]["route_type"] == rendered["ai-proxy"]["route_type"]


def test_a_plugin_that_no_file_names_is_measured_as_it_comes(tmp_path: Path) -> None:
    found = by_name(write(tmp_path, cache=CACHE))
    assert found["cache"].sections == {"cache": {"cache_ttl": 60}}
    assert found["compression"].sections == {"compression": {}}


def test_together_takes_the_sections_of_others(tmp_path: Path) -> None:
    guard = "sections: {guardrails: {show_reason: true}}\nhides_personal: true\n"
    both = "title: both\ntogether: [cache, guard, nothing-known]\n"
    found = by_name(write(tmp_path, cache=CACHE, guard=guard, both=both))["both"]
    assert found.sections == {"cache": {"cache_ttl": 60}, "guardrails": {"show_reason": True}}
    assert found.hides_personal
    assert set(found.plugins) == {"tenant-semantic-cache", "tenant-guardrails"}


def test_a_section_of_a_later_version_is_left_out_and_named(tmp_path: Path) -> None:
    future = "sections: {translation: {}}\n"
    both = "together: [cache, future]\n"
    found, left = configurations.read(write(tmp_path, cache=CACHE, future=future, both=both))
    assert left == ("future: this version has no section translation",)
    assert {c.name: c for c in found}["both"].sections.keys() == {"cache"}


def test_gateway_settings_tell_who_shares_a_gateway(tmp_path: Path) -> None:
    own = "sections: {cache: {}}\ngateway: {timeouts: {read_s: 5}}\n"
    found = by_name(write(tmp_path, cache=CACHE, own=own))
    assert found["cache"].needs() == BARE.needs() != found["own"].needs()


@pytest.mark.parametrize(
    ("text", "problem"),
    [("title: [", "isn't YAML"), ("- a", "must be a mapping"), ("sektions: {}", "sektions: unknown field")],
)
def test_faults_are_named_with_their_file(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"broken\.yaml: .*{problem}"):
        configurations.read(write(tmp_path, broken=text))
