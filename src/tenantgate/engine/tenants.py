"""Tenants as the engine has them in memory: the record of the policy directory, and stages made on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenantgate import __version__
from tenantgate.engine.stages import Stage, StageBuilder
from tenantgate.errors import ConfigError
from tenantgate.mcp.core.stored import from_record
from tenantgate.mcp.service import McpEndpoints
from tenantgate.policy.core.records import ModelPolicy, TenantPolicy
from tenantgate.routing.service import Route, Router

__all__ = ["MCP", "Tenant", "texts_of"]

MCP: Final = "mcp"
"""In the place of a provider's name, for calls of MCP tools."""


def texts_of(stages: Sequence[Stage]) -> Mapping[str, str]:
    """Texts that stages leave in ``kong.ctx.shared``, whatever becomes of the request: their services' `shared`."""
    return {name: text for stage in stages for name, text in getattr(stage.service, "shared", {}).items()}


class Tenant:
    """A tenant's policy and its stages.

    Stages are made for a model's first request, and for all models at once where a record is checked.
    """

    def __init__(self, policy: TenantPolicy, builder: StageBuilder) -> None:
        self.policy = policy
        self._builder = builder
        self._stages: dict[str, tuple[Stage, ...]] = {}
        self._routes: dict[str, Route] = {}
        self.mcp: McpEndpoints | None = None
        if policy.mcp:
            try:
                servers = [from_record(tree) for tree in policy.mcp]
            except (TypeError, KeyError) as error:
                raise ConfigError(
                    f"mcp: no server that this version knows ({type(error).__name__})"
                ) from None
            self.mcp = McpEndpoints(servers, version=__version__)

    @property
    def shared(self) -> Mapping[str, str]:
        """Texts for the journal of a request that named no model: those of the first model that has some."""
        return next((found for m in self.policy.models if (found := texts_of(self.stages(m)))), {})

    def check(self) -> None:
        """Make all stages.

        Raises:
            ConfigError: a model's settings can't be used; names the section and its problem.
        """
        for model in self.policy.models:
            try:
                self.stages(model)
                self.tool_stages()
            except ConfigError:
                raise
            except Exception as error:
                # Whatever a stage's set-up makes of settings that a later version wrote.
                raise ConfigError(f"{model.qualified}: {type(error).__name__}") from error

    def stages(self, model: ModelPolicy) -> Sequence[Stage]:
        """The model's stages in the order in which they run."""
        found = self._stages.get(model.qualified)
        if found is None:
            found = self._stages[model.qualified] = self._builder.stages(model)
        return found

    def tool_stages(self) -> Sequence[Stage]:
        """The stages of calls of MCP tools."""
        return self._tool_stages("", self.policy.mcp_stages)

    def tool_limits(self, server: str, tool: str, limit: Mapping[str, Any]) -> Sequence[Stage]:
        """The rate limits of one tool; `limit` is a stage's configuration."""
        return self._tool_stages(f"{server}/{tool}", {"limits": limit})

    def _tool_stages(self, name: str, stages: Mapping[str, Mapping[str, Any]]) -> Sequence[Stage]:
        route = f"{MCP}.{self.policy.tenant}"
        return self.stages(ModelPolicy(provider=MCP, model=name, route_name=route, stages=stages))

    def route(self, model: ModelPolicy, router: Router) -> Route | None:
        """The model's targets with their health; None where it has one that is asked directly."""
        if model.routing is None:
            return None
        found = self._routes.get(model.qualified)
        if found is None:
            found = self._routes[model.qualified] = router.route(model, model.routing)
        return found

    def model(self, qualified: str) -> ModelPolicy | None:
        """The model called ``provider/model``."""
        return next((m for m in self.policy.models if m.qualified == qualified), None)
