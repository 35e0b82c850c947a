"""The guard's costly parts, loaded once for the whole process, never in a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tenantgate.errors import EdgeError, TenantgateError
from tenantgate.guard.core.injection import InjectionModel
from tenantgate.guard.patterns import Re2Patterns
from tenantgate.guard.phrase_patterns import phrase_finder
from tenantgate.guard.presidio import PresidioFinder
from tenantgate.guard.weights import injection_weights
from tenantgate.models.files import find_models
from tenantgate.pii.name_models import load_names
from tenantgate.store.threads import BackgroundBuilds
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.guard.config import RuleConfig
    from tenantgate.guard.core.ports import Embedder, Patterns
    from tenantgate.pii.core.ports import NameFinder

__all__ = ["PARTS", "NotReadyError", "SharedParts"]

_log: Final = logging.getLogger("tenantgate.guard")
_off: Final = metrics.gauge(
    "tenantgate_guard_part_off",
    "1 while this part of the guard can't be loaded: rules that need it can't check.",
    ("part",),
)
_PARTS: Final = 256  # of a process
_TOKENS: Final = 64  # of a text; 128 would take three times as long


_PART_OF: Final = {
    "injection": "injection",
    "names": "names",
    "denied_topics": "embedder",
    "allowed_topics": "embedder",
}


class NotReadyError(EdgeError):
    """A model is still being loaded."""


class SharedParts:
    """The `tenantgate.guard.core.detectors.Parts` of a process; thread-safe.

    What isn't loaded raises `NotReadyError` and begins to load; `load` waits for it.
    """

    def __init__(self) -> None:
        self.builds: BackgroundBuilds[str, Any] = BackgroundBuilds(
            "load-part", lambda name: self._makers[name](), failed=_failed, most=_PARTS
        )
        self._makers: dict[str, Callable[[], Any]] = {
            "embedder": _load_embedder,
            "injection": _load_injection,
            "names": load_names,
        }

    def injection(self) -> InjectionModel:
        """The model of prompt injection; needs no built models."""
        found: InjectionModel = self._get("injection")
        return found

    def embedder(self) -> Embedder:
        """The built-in embedder, for windows of 64 tokens."""
        found: Embedder = self._get("embedder")
        return found

    def names(self) -> NameFinder:
        """The finder of names: the model of `tenantgate models build --names`, the extra ``ner``, or both."""
        found: NameFinder = self._get("names")
        return found

    def patterns(self, rule: RuleConfig) -> Patterns:
        """The rule's expressions."""
        return Re2Patterns(rule.patterns)

    def presidio(self, rule: RuleConfig) -> Patterns:
        """Presidio with the rule's recognisers: the extra ``presidio``."""
        name = _presidio_name(rule)
        self._makers.setdefault(name, lambda: _load_presidio(rule))
        found: Patterns = self._get(name)
        return found

    def load_for(self, rule: RuleConfig) -> None:
        """Load what the rule needs, as `load` does."""
        name = _presidio_name(rule) if rule.detector == "presidio" else _PART_OF.get(rule.detector)
        if name is not None:
            if rule.detector == "presidio":
                self._makers.setdefault(name, lambda: _load_presidio(rule))
            self.load(name)

    def load(self, name: str) -> None:
        """Load a part now; what goes wrong is logged, and raised when the part is asked for."""
        self.builds.wait(name)

    def _get(self, name: str) -> Any:
        made = self.builds.get(name)
        if made is None:
            raise NotReadyError(f"{name}: still loading")
        if isinstance(made, TenantgateError):
            raise made.with_traceback(None)
        return made


def _failed(name: str, error: Exception) -> TenantgateError:
    _off.set(1.0, part=name.partition(" ")[0])
    logs.event(_log, logging.ERROR, "a part of the guard can't be loaded", part=name, **logs.describe(error))
    return error if isinstance(error, TenantgateError) else EdgeError(f"{name}: {type(error).__name__}")


def _presidio_name(rule: RuleConfig) -> str:
    return f"presidio {rule.recognizers} {rule.language} {' '.join(rule.entities)}"


def _load_injection() -> InjectionModel:
    model = InjectionModel(injection_weights(), phrase_finder())
    model.find("warm-up")
    return model


def _load_embedder() -> Embedder:
    files = find_models()
    if files is None:
        raise EdgeError("the models aren't built: run `tenantgate models build`")
    embedder = files.embedder(_TOKENS)
    embedder.embed("warm-up")
    return embedder


def _load_presidio(rule: RuleConfig) -> Patterns:
    return PresidioFinder(rule.recognizers, rule.language or "en", rule.entities)


PARTS: Final = SharedParts()
