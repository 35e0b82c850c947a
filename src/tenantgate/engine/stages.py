"""Stages: the services of the features, made from a tenant's record and shared by all tenants with equal settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tenantgate import features, fields
from tenantgate.engine.config import EngineConfig
from tenantgate.errors import ConfigError
from tenantgate.kong.policy import PhasePolicy
from tenantgate.manifest import PluginManifest, RouteSettings, resolve
from tenantgate.policy.core.records import ModelPolicy, price_tree
from tenantgate.store.shared import Shared

__all__ = ["Stage", "StageBuilder"]

_TRANSFORM: Final = "transform"
_MOST: Final = 10_000  # services of different settings
_VAULT: Final = "{vault://"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Stage:
    """One feature's part of a request, with the settings of a model."""

    manifest: PluginManifest[Any]
    service: Any
    policy: PhasePolicy
    deadline_ms: float | None
    """Most time for a phase; None where the service sees to that itself."""

    @property
    def name(self) -> str:
        """The name in metrics and logs, which is that of the attachable plugin."""
        return self.manifest.name


class StageBuilder:
    """Maker of stages; thread-safe."""

    def __init__(self, config: EngineConfig) -> None:
        self._settings = _settings(config)
        self._secrets = {secret.name: secret.value for secret in config.secrets}
        self._right: set[bytes] = set()  # digests of settings that were read
        self._services: Shared[Stage] = Shared(_MOST, weak=True)  # kept by the tenants in memory

    def stages(self, model: ModelPolicy) -> tuple[Stage, ...]:
        """The model's stages in the order in which they run.

        Raises:
            ConfigError: names the section and its problem.
        """
        return tuple(self._stage(manifest, config) for manifest, config in self._configs(model))

    def check(self, model: ModelPolicy) -> None:
        """Read the settings of the model's stages without making one, which takes a hundred times as long.

        Raises:
            ConfigError: names the section and its problem.
        """
        prices = [None if t.prices is None else price_tree(t.prices) for t in model.targets]
        text = json.dumps([model.stages, prices], sort_keys=True, default=list)
        key = hashlib.sha256(text.encode()).digest()
        if key not in self._right:
            for manifest, config in self._configs(model):
                _read(manifest, config)
            if len(self._right) >= _MOST:
                self._right.clear()
            self._right.add(key)

    def _configs(self, model: ModelPolicy) -> Iterator[tuple[PluginManifest[Any], dict[str, Any]]]:
        """What each of the model's stages is made from."""
        known = {manifest.section: manifest for manifest in features.stages()}
        if unknown := sorted(model.stages.keys() - known.keys()):
            raise ConfigError(f"{model.qualified}: {', '.join(unknown)} isn't known to this version")
        headers = model.stages.get(_TRANSFORM, {}).get("upstream_headers")
        for section, manifest in known.items():
            if section in model.stages:
                settings = self._settings[manifest.name]
                if (
                    headers is not None
                ):  # of the client that reach the model's provider, else those of the gateway
                    settings = replace(
                        settings, upstream_headers=tuple(sorted(headers, key=str.lower)) or None
                    )
                values = {**model.stages[section], **_price_lists(manifest, model)}
                yield manifest, {**self._resolved(values, section), **manifest.fill(settings)}

    def _stage(self, manifest: PluginManifest[Any], config: Mapping[str, Any]) -> Stage:
        key = manifest.section, json.dumps(config, sort_keys=True, default=list)
        return self._services.get(key, lambda: _made(manifest, config))

    def _resolved(self, value: Any, where: str) -> Any:
        """The value with secrets in place of references to them."""
        if isinstance(value, Mapping):
            return {k: self._resolved(v, f"{where}.{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [self._resolved(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, str) and value.startswith(_VAULT):
            if value not in self._secrets:
                raise ConfigError(f"{where}: the engine's settings in Kong hold no secret for this reference")
            return self._secrets[value]
        return value


def _price_lists(manifest: PluginManifest[Any], model: ModelPolicy) -> dict[str, Any]:
    """The price lists of the model's targets, for a feature that wants them."""
    if manifest.price_lists_field is None:
        return {}
    lists = {t.id: json.dumps(price_tree(t.prices), sort_keys=True) for t in model.targets if t.prices}
    return {manifest.price_lists_field: lists} if lists else {}


def _settings(config: EngineConfig) -> Mapping[str, RouteSettings]:
    """By plugin, what it takes from the gateway."""
    redis = asdict(config.redis)
    common: dict[str, Any] = {
        "redis": redis,
        "encryption_key": config.encryption_key,
        "correlation_header": config.correlation_header,
        "strict_requests": config.strict_requests,
        "upstream_headers": config.upstream_headers or None,
        "rate_limit_redis": redis if config.rate_limit_redis is None else asdict(config.rate_limit_redis),
        "rate_limit_policy": config.rate_limit_policy,
    }
    own = {"tenantgate.audit": config.audit}
    return {
        plugin.name: RouteSettings(own=own.get(plugin.service.partition(":")[0].rpartition(".")[0]), **common)
        for plugin in features.stages()
    }


def _read(manifest: PluginManifest[Any], values: Mapping[str, Any]) -> Any:
    # A setting that only a later version knows may be a rule: the record is refused as a whole.
    return fields.parse(manifest.config_class, values, where=manifest.section, strict=True)


def _made(manifest: PluginManifest[Any], values: Mapping[str, Any]) -> Stage:
    config = _read(manifest, values)
    own = None if manifest.own_deadline else getattr(config, "deadline_ms", None)
    return Stage(
        manifest,
        resolve(manifest.service)(config),
        PhasePolicy(reject=manifest.rejects(config)),
        None if own is None else float(own),
    )
