"""What is measured: one gateway configuration a file, and `bare`, which has no plugin of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tenantgate import features
from tenantgate.errors import ConfigError

__all__ = ["BARE", "BARE_PATH", "MODEL", "Configuration", "bare_service", "read", "tenants_yaml"]

_FIELDS: Final = ("title", "sections", "gateway", "together", "hides_personal")
MODEL: Final = "mock-small"
_COSTS: Final = {"input_cost": 0.15, "output_cost": 0.60}
_MODEL: Final = {"provider": "mock", "model": MODEL, **_COSTS}
BARE_PATH: Final = "/bare/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One configuration.

    Attributes:
        name: short, for tables and as part of the tenants' ids.
        title: for people.
        sections: of tenants.yaml, by name.
        gateway: of tenants.yaml. Configurations with the same one share a gateway process.
        hides_personal: whether personal data must not reach the provider; a gate.
    """

    name: str
    title: str
    sections: Mapping[str, Any] = field(default_factory=dict)
    gateway: Mapping[str, Any] = field(default_factory=dict)
    hides_personal: bool = False

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of the engine's stages for its tenants, in the order in which they run."""
        return tuple(p.name for p in features.plugins() if p.section in self.sections)

    def tenant(self, number: int) -> str:
        """The id of a tenant of this configuration."""
        return f"{self.name}-{number}"

    def needs(self) -> str:
        """What tells whether two configurations can share a gateway."""
        return json.dumps(self.gateway, sort_keys=True)


BARE: Final = Configuration(name="bare", title="a route of its own with stock key-auth and ai-proxy")


def bare_service(mock_url: str) -> dict[str, Any]:
    """The service of `BARE` in kong.yml: what a request costs a Kong that does nothing but look the key up and proxy.

    Its key-auth and ai-proxy are set as those beside the engine.
    """
    model = {
        "provider": "openai",
        "name": MODEL,
        "options": {"upstream_url": f"{mock_url}/v1/chat/completions", **_COSTS},
    }
    proxy = {"route_type": "llm/v1/chat", "model": model, "logging": {"log_statistics": True}}
    keys = {
        "key_names": ["apikey", "x-api-key", "api-key", "Authorization"],
        "hide_credentials": True,
        "key_in_query": False,
    }
    return {
        "name": "bare",
        "url": "https://llm.invalid",
        "routes": [{"name": "bare", "paths": [BARE_PATH], "methods": ["POST"], "response_buffering": False}],
        "plugins": [
            {"name": "key-auth", "config": keys},
            {"name": "ai-proxy", "config": proxy},
            # In place of the rendered one for paths without a route.
            {"name": "post-function", "config": {"header_filter": ["return"]}},
        ],
    }


def read(folder: Path | None) -> tuple[tuple[Configuration, ...], tuple[str, ...]]:
    """The configurations of a folder's ``*.yaml``, and what was left out and why.

    A plugin of the catalogue that no file names alone is measured with its default settings. A configuration that
    asks for a section which this version doesn't have is left out.

    Raises:
        ConfigError: names the file and what is wrong in it.
    """
    files = sorted(folder.glob("*.yaml")) if folder else []
    raw = {f.stem: _load(f) for f in files}
    known = features.by_section()
    for section in known:
        if not any(set(r.get("sections", {})) == {section} for r in raw.values()):
            raw[section] = {"title": f"{section}, default settings", "sections": {section: {}}}
    out, left = [], []
    for name, entry in sorted(raw.items(), key=lambda item: ("together" in item[1], item[0])):
        parts = [raw[p] for p in entry.get("together", ()) if p in raw]
        merged = _merged([*parts, entry])
        merged["sections"] = {
            s: v for s, v in merged["sections"].items() if s in known or s in entry.get("sections", ())
        }
        if missing := [s for s in merged["sections"] if s not in known]:
            left.append(f"{name}: this version has no section {', '.join(missing)}")
            continue
        out.append(Configuration(name=name, title=entry.get("title", name), **merged))
    if not files:
        sections: dict[str, Any] = {s: {} for s in known if s != "response_guardrails"}
        out.append(Configuration(name="all", title="all plugins, default settings", sections=sections))
    return tuple(out), tuple(left)


def _merged(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    gateway: dict[str, Any] = {}
    for entry in entries:
        sections |= entry.get("sections", {})
        gateway |= entry.get("gateway", {})
    hides = any(e.get("hides_personal", False) for e in entries)
    return {"sections": sections, "gateway": gateway, "hides_personal": hides}


def _load(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: isn't YAML") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a mapping")
    if unknown := sorted(set(found) - set(_FIELDS)):
        raise ConfigError(f"{path}: {unknown[0]}: unknown field; known are {', '.join(_FIELDS)}")
    return found


def tenants_yaml(configurations: Sequence[Configuration], tenants: int) -> str:
    """A tenants.yaml with `tenants` tenants of each configuration, all on the mock provider."""
    entries = [
        {
            "id": c.tenant(number),
            "api_keys": [f'${{{{ env "DECK_{c.tenant(number).upper().replace("-", "_")}" }}}}'],
            "models": [dict(_MODEL)],
            **c.sections,
        }
        for c in configurations
        for number in range(tenants)
    ]
    return yaml.safe_dump(
        {"version": 1, "gateway": dict(configurations[0].gateway), "tenants": entries}, sort_keys=False
    )
