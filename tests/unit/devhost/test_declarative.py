from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tenantgate.devhost.declarative import load_text
from tenantgate.errors import ConfigError

AI: dict[str, Any] = {
    "name": "ai-proxy",
    "config": {
        "route_type": "llm/v1/chat",
        "auth": {"header_name": "Authorization", "header_value": "{vault://env/acme-key}"},
        "model": {"provider": "openai", "name": "m", "options": {"upstream_url": "http://127.0.0.1:1/v1"}},
        "logging": {"log_statistics": True, "log_payloads": True},
    },
}
TREE: dict[str, Any] = {
    "_format_version": "3.0",
    "services": [
        {
            "name": "llm",
            "url": "https://llm.invalid",
            "routes": [
                {
                    "name": "a",
                    "paths": ["/a"],
                    "plugins": [AI, {"name": "mine", "config": {"secret": "{vault://env/s}"}}],
                },
                {"name": "b", "paths": ["/b"]},
            ],
        }
    ],
    "consumers": [
        {
            "username": "tenant_acme",
            "custom_id": "acme",
            "keyauth_credentials": [{"key": "k1"}],
            "acls": [{"group": "g"}],
        }
    ],
    "plugins": [{"name": "correlation-id", "consumer": "tenant_acme", "service": "llm", "config": {}}],
}
MINE = [
    {"protocols": {}},
    {
        "config": {
            "type": "record",
            "fields": [
                {"secret": {"type": "string", "referenceable": True}},
                {"flags": {"type": "array", "elements": {"type": "string"}, "default": []}},
                {"rate": {"type": "number", "between": [0, 1], "default": 0.5}},
                {"deep": {"type": "record", "fields": [{"n": {"type": "integer", "default": 3}}]}},
            ],
        }
    },
]
ENV = {"ACME_KEY": "Bearer x", "S": "hush"}


def load(tree: Any) -> Any:
    return load_text(yaml.safe_dump(tree), external={"mine": MINE}, environ=ENV)


def changed(path: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(TREE)
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return tree


ROUTE = ("services", 0, "routes", 0)


def test_entities_refer_to_each_other() -> None:
    config = load(TREE)
    assert [r.service.name for r in config.routes] == ["llm", "llm"]
    assert config.credentials["k1"].consumer.custom_id == "acme"
    assert config.credentials["k1"].consumer.groups == {"g"}
    scoped = next(p for p in config.plugins if p.name == "correlation-id")
    assert scoped.scope == (None, config.services[0].id, config.credentials["k1"].consumer.id)


def test_ids_are_the_same_at_each_start() -> None:
    assert [r.id for r in load(TREE).routes] == [r.id for r in load(TREE).routes]


def test_a_python_plugins_config_gets_defaults_references_and_kongs_own_keys() -> None:
    config = next(p for p in load(TREE).plugins if p.name == "mine").config
    assert config["secret"] == "hush"
    assert (config["flags"], config["rate"], config["deep"]) == ([], 0.5, {"n": 3})
    assert config["$refs"] == {"secret": "{vault://env/s}"}
    assert {"__plugin_id", "__seq__", "__key__", "__ws_id", "route_id"} <= config.keys()
    assert "service_id" not in config


def test_secrets_are_not_printed() -> None:
    config = load(TREE)
    assert "Bearer x" not in repr(config)
    assert "k1" not in repr(config)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("upstreams",), [], "upstreams"),
        (("_format_version",), "9", "_format_version"),
        ((*ROUTE, "sources"), [], r"services\[0\].routes\[0\].sources"),
        ((*ROUTE, "request_buffering"), False, "request_buffering"),
        (
            (*ROUTE, "plugins", 1, "name"),
            "saml",
            r"services\[0\].routes\[0\].plugins\[1\] saml: .* no plugin of this name",
        ),
        ((*ROUTE, "plugins", 1, "config"), {"rate": 2}, "config.rate: 2 should be between 0 and 1"),
        ((*ROUTE, "plugins", 1, "config"), {"nope": 2}, "config.nope: unknown field"),
        ((*ROUTE, "plugins", 1, "config"), {"secret": "{vault://env/unset}"}, "the environment has no UNSET"),
        ((*ROUTE, "plugins", 1, "config"), {"secret": "{vault://aws/x}"}, "vault://env/NAME"),
        ((*ROUTE, "plugins", 1, "config"), {"flags": ["{vault://env/s}"]}, "doesn't resolve this field"),
        (
            (*ROUTE, "plugins", 0, "config", "model", "provider"),
            "bedrock",
            "config.model.provider: .*real Kong",
        ),
        ((*ROUTE, "plugins", 0, "config", "route_type"), "preserve", "config.route_type"),
        ((*ROUTE, "plugins", 0, "config", "llm_format"), "gemini", "config.llm_format"),
        (("consumers", 0, "keyauth_credentials", 0, "key"), '${{ env "DECK_X" }}', "placeholder"),
        (("plugins", 0, "consumer"), "nobody", "'nobody', which isn't in the file"),
        (("plugins", 0, "config"), {"generator": "tracker"}, "the tracker generator"),
        (("services", 0, "protocol"), "grpc", "url|protocol"),
    ],
)
def test_what_cant_be_honoured_is_refused_by_its_place(path: tuple[Any, ...], value: Any, told: str) -> None:
    tree = changed(path, value)
    if value == "grpc":
        del tree["services"][0]["url"]
    with pytest.raises(ConfigError, match=told):
        load(tree)


def test_two_plugins_of_a_name_in_one_scope_are_refused() -> None:
    with pytest.raises(ConfigError, match="already set for this scope"):
        load(changed((*ROUTE, "plugins"), [AI, AI]))


def test_a_disabled_plugin_is_left_out() -> None:
    off = {"name": "saml", "enabled": False}
    assert not any(
        p.name == "ai-proxy" for p in load(changed((*ROUTE, "plugins"), [{**AI, "enabled": False}])).plugins
    )
    with pytest.raises(ConfigError):
        load(changed((*ROUTE, "plugins"), [{**off, "enabled": True}]))
