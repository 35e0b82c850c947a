"""Pages of the documentation: their links, the tests they name, and the configurations they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tenantgate import features
from tenantgate.config import deck_variables as placeholders
from tenantgate.config import load_text, render, scripts
from tenantgate.devhost import declarative, kong_conf, kong_schema
from tenantgate.devhost.gateway import Gateway, Loaded
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.stock_schemas import PRIORITIES, SCHEMAS
from tenantgate.kong.loading import PluginFile
from tenantgate.kong.loading import load as load_plugin
from tenantgate.manifest import resolve

from support import ROOT

FACTS: Final = ROOT / "docs" / "kong-facts.md"
PAGES: Final = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
PLUGIN_PAGES: Final = sorted((ROOT / "docs" / "plugins").glob("*.md"))
ATTACHED: Final = ROOT / "docs" / "attached.md"
LUA_PLUGINS: Final = ("pre-function", "post-function", "file-log")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def plugin_name(page: Path) -> str:
    return page.stem


def named_tests() -> list[tuple[str, str]]:
    """File and function of each test that the page of facts names; ``::name`` is in the file before it."""
    found, file = [], ""
    for path, name in re.findall(r"`([a-z0-9_/.]*)::([a-z0-9_]+)`", FACTS.read_text("utf-8")):
        file = path or file
        found.append((file, name))
    return found


def test_each_fact_about_kong_names_a_test_that_is_there() -> None:
    assert len(named_tests()) >= 20
    for file, name in named_tests():
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file}::{name}"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for named in re.findall(r"`((?:src|docs|benchmarks|tests|deploy)/[\w./-]+)`", page.read_text("utf-8")):
        assert (ROOT / named).exists() or re.search("NAME|PLUGIN", named), named


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def configurations() -> list[tuple[str, str]]:
    """Each YAML of a page that is a whole tenants.yaml."""
    return [
        (page_name(page), block)
        for page in PAGES
        for block in blocks(page, "yaml")
        if block.startswith("version: 1")
    ]


def test_every_configuration_of_a_page_can_be_rendered() -> None:
    pages = [page for page, _ in configurations()]
    assert {"README.md", *map(page_name, PLUGIN_PAGES)} <= set(pages)
    for page, text in configurations():
        assert render(load_text(text, name=page)), page


@cache
def plugins() -> Mapping[str, PluginFile]:
    """The plugins for routes of one's own, by name."""
    return {p.name: load_plugin(ROOT / "plugins" / f"{p.name}.py") for p in features.plugins()}


def environment(text: str) -> dict[str, str]:
    """A value for each variable that a configuration refers to."""
    names = [*placeholders.names(text), *placeholders.vault_names(text)]
    return {name: f"{name}-0123456789abcdef0123456789abcdef" for name in names}


def declared(text: str) -> Any:
    """The entities of a kong.yml, as the embedded gateway loads them."""
    environ = environment(text)
    external = {name: plugin.description()["Schema"] for name, plugin in plugins().items()}
    resolved = json.dumps(placeholders.resolve_tree(yaml.safe_load(text), environ))
    config = declarative.load_text(resolved, external=external, environ=environ)
    Gateway(Loaded(conf=kong_conf.load(ROOT / "kong.conf"), config=config), KongLog())  # compiles the Lua
    return config


def kong_files(page: Path) -> list[str]:
    return [block for block in blocks(page, "yaml") if block.startswith("_format_version")]


def test_each_page_about_a_plugin_shows_a_kong_yml_and_requests_to_the_admin_api() -> None:
    assert [plugin_name(page) for page in PLUGIN_PAGES] == sorted(plugins())
    for page in PLUGIN_PAGES:
        assert kong_files(page), page
        assert next(name for name, _ in admin_requests(page)) == plugin_name(page), page


@pytest.mark.parametrize("page", PLUGIN_PAGES, ids=plugin_name)
def test_a_hand_written_kong_yml_of_a_page_loads(page: Path) -> None:
    for text in kong_files(page):
        config = declared(text)
        (own,) = (plugin for plugin in config.plugins if plugin.name == plugin_name(page))
        assert plugins()[own.name].plugin(own.config).config_error is None
        (consumer,) = config.consumers.values()
        assert consumer.custom_id, "without it there is no tenant"


def test_the_page_of_attached_plugins_has_all_of_them_on_one_route() -> None:
    (text,) = kong_files(ATTACHED)
    own = {p.name: plugins()[p.name].plugin(p.config) for p in declared(text).plugins if p.name in plugins()}
    assert {name: plugin.config_error for name, plugin in own.items()} == dict.fromkeys(plugins())
    shown = stock_lua(text)
    assert shown <= project_lua()
    assert {resolve(code) for plugin in own.values() for code in plugin.manifest.closing.values()} <= shown
    alone = {code for page in PLUGIN_PAGES for file in kong_files(page) for code in stock_lua(file)}
    assert shown == alone


def lua_texts(plugin: Mapping[str, Any]) -> Iterator[str]:
    """Lua of an entity of a stock plugin."""
    config = plugin.get("config") or {}
    yield from (config.get("custom_fields_by_lua") or {}).values()
    for phase in ("access", "header_filter", "body_filter"):
        yield from config.get(phase) or []


def stock_lua(text: str) -> set[str]:
    """Lua of all stock plugins in a kong.yml."""
    (service,) = yaml.safe_load(text)["services"]
    entities = [*service.get("plugins", []), *(p for r in service["routes"] for p in r["plugins"])]
    return {code for p in entities if p["name"] in LUA_PLUGINS for code in lua_texts(p)}


@pytest.mark.parametrize("page", PLUGIN_PAGES, ids=plugin_name)
def test_lua_of_a_hand_written_kong_yml_is_the_renderers(page: Path) -> None:
    shown = {code for text in kong_files(page) for code in stock_lua(text)}
    assert shown <= project_lua()
    manifest = plugins()[plugin_name(page)].plugin.manifest
    for code in manifest.closing.values():
        assert resolve(code) in shown, "what refuses an unchecked request or reply must be in the page"


def project_lua() -> set[str]:
    """The texts that the project gives to stock plugins."""
    texts = {text for name, text in vars(scripts).items() if name.isupper() and isinstance(text, str)}
    for plugin in features.plugins():
        texts |= {resolve(code) for code in plugin.closing.values()}
        if plugin.journal:
            texts |= set(resolve(plugin.journal.fields)("X-Request-ID").values())
    return texts


def admin_requests(page: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and configuration of each plugin that a page attaches by the Admin API."""
    found = []
    for block in blocks(page, "sh"):
        for scope, body in re.findall(
            r"curl -X POST http://localhost:8001/(\S+)/plugins .*?<<'EOF'\n(.*?)^EOF$",
            block,
            re.DOTALL | re.MULTILINE,
        ):
            assert scope.startswith(("routes/", "services/")), scope
            entity = json.loads(body)
            found.append((entity["name"], entity["config"]))
    return found


def as_kong_takes_it(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's configuration, checked by its schema, with defaults and without references."""
    environ = environment(json.dumps(config))

    def resolve(reference: str, _where: str) -> str:
        return environ[placeholders.vault_names(reference)[0]]

    ours = plugins().get(name)
    fields = ours.schema if ours else SCHEMAS[name]
    return kong_schema.apply(fields, config, f"{name}: config", resolve=resolve, refs={})


@pytest.mark.parametrize("page", PLUGIN_PAGES, ids=plugin_name)
def test_requests_to_the_admin_api_fit_the_plugins_schema(page: Path) -> None:
    shown = {code for text in kong_files(page) for code in stock_lua(text)}
    for name, config in admin_requests(page):
        taken = as_kong_takes_it(name, config)
        if name in plugins():
            assert plugins()[name].plugin(taken).config_error is None
        else:
            assert set(lua_texts({"config": config})) <= shown


@pytest.mark.parametrize("page", PLUGIN_PAGES, ids=plugin_name)
def test_a_page_gives_its_plugins_priority_and_phases(page: Path) -> None:
    plugin = plugins()[plugin_name(page)]
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", page.read_text("utf-8"), re.MULTILINE))
    assert rows["Priority"].startswith(f"{plugin.priority}")
    assert re.findall(r"`(\w+)`", rows["Phases"]) == plugin.phases
    assert plugin.priority > PRIORITIES["ai-proxy"]


def test_the_glossary_is_short() -> None:
    terms = re.findall(r"^\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert 0 < len(terms) <= 24
    assert terms == sorted(terms, key=str.lower)
