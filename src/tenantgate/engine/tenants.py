"""Tenants as the engine has them in memory: the record of the policy directory, and stages made on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tenantgate import __version__
from tenantgate.engine.core.terms import counts_model, provider_of
from tenantgate.engine.stages import Stage, StageBuilder
from tenantgate.errors import ConfigError
from tenantgate.limits.core.claims import counts, counts_tool
from tenantgate.limits.core.reading import rules_of
from tenantgate.limits.core.rules import Counted, Rule
from tenantgate.limits.service import RequestLimits
from tenantgate.mcp.core.stored import from_record
from tenantgate.mcp.core.tool import RemoteTool, Server, Tool
from tenantgate.mcp.service import McpEndpoints
from tenantgate.policy.core.records import ModelPolicy, TenantPolicy
from tenantgate.routing.service import Route, Router

__all__ = ["MCP", "Tenant", "texts_of"]

MCP: Final = "mcp"
"""In the place of a provider's name, for calls of MCP tools."""

_COMPRESSION: Final = "compression"
_MOST_COMPRESSION: Final[Mapping[str, Any]] = {
    "compressor_type": "rate",
    "compression_ranges": [{"min_tokens": 50, "max_tokens": 10_000_000, "value": 0.5}],
    "message_type": ["user", "assistant", "tool"],
    "min_tokens": 50,
    "whitespace": True,
    "structure": True,
    "repeats": True,
    "boilerplate": True,
    "prune": True,
}
"""What `compress: more` sets in the section; the rules of a system prompt stay as they are."""


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
        self._shared_rules = rules_of(policy)
        self._stages: dict[str, tuple[Stage, ...]] = {}
        self._routes: dict[tuple[str, ...], Route] = {}
        self._rules: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        self._others: dict[tuple[str, frozenset[str]], ModelPolicy | None] = {}
        self._compressing: dict[str, tuple[Stage, ...]] = {}
        self.mcp: McpEndpoints | None = None
        self._servers: Sequence[Server] = ()
        if policy.mcp:
            try:
                self._servers = [from_record(tree) for tree in policy.mcp]
            except (TypeError, KeyError) as error:
                raise ConfigError(
                    f"mcp: no server that this version knows ({type(error).__name__})"
                ) from None
            self.mcp = McpEndpoints(self._servers, version=__version__)

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
                self.rules(model)
                self.stages(model)
                self.tool_stages()
                for server, tool in self._tools():
                    self.tool_rules(server, tool)
            except ConfigError:
                raise
            except Exception as error:
                # Whatever a stage's set-up makes of settings that a later version wrote.
                raise ConfigError(f"{model.qualified}: {type(error).__name__}") from error

    def check_settings(self) -> None:
        """Read the settings of all stages, and make none: what `check` finds but for what making one would.

        Raises:
            ConfigError: names the section and its problem.
        """
        for model in self.policy.models:
            self._builder.check(model)
        self._builder.check(self._tool_model("", self.policy.mcp_stages))
        for server, tool in self._tools():
            if tool.limit:
                self._builder.check(self._tool_model(f"{server}/{tool.name}", {"limits": tool.limit}))

    def stages(self, model: ModelPolicy) -> Sequence[Stage]:
        """The model's stages in the order in which they run."""
        found = self._stages.get(model.qualified)
        if found is None:
            found = self._stages[model.qualified] = self._builder.stages(model)
        return found

    def compressing(self, model: ModelPolicy) -> Sequence[Stage]:
        """The model's stages with as much compression as there is."""
        found = self._compressing.get(model.qualified)
        if found is None:
            more = {**model.stages.get(_COMPRESSION, {}), **_MOST_COMPRESSION}
            made = replace(model, stages={**model.stages, _COMPRESSION: more})
            found = self._compressing[model.qualified] = self._builder.stages(made)
        return found

    def rules(self, model: ModelPolicy) -> tuple[Rule, ...]:
        """The limits and budgets that count the model's requests: on requests, then the tenant's in its order.

        Raises:
            ConfigError: the record holds none that can be used; names the field and its problem.
        """
        found = self._rules.get(key := _key(model))
        if found is None:
            own = [s.service.rules for s in self.stages(model) if isinstance(s.service, RequestLimits)]
            found = self._rules[key] = (
                *(rule for rules in own for rule in rules),
                *(rule for rule in self._shared_rules if counts_model(rule, model)),
            )
        return found

    def tool_stages(self) -> Sequence[Stage]:
        """The stages of calls of MCP tools."""
        return self._tool_stages("", self.policy.mcp_stages)

    def tool_rules(self, server: str, tool: Tool | RemoteTool) -> tuple[Rule, ...]:
        """The limits and budgets that count a tool's calls: its own, those of tools, and the budgets of all requests.

        Those that count money only where the tool has a price.
        """
        name = f"{server}/{tool.name}"
        stages = self._tool_stages(name, {"limits": tool.limit}) if tool.limit else ()
        own = (rule for s in stages if isinstance(s.service, RequestLimits) for rule in s.service.rules)
        return (
            *own,
            *(
                rule
                for rule in self._shared_rules
                if (tool.price_nano or rule.counted is not Counted.COST)
                and (
                    counts_tool(rule, server, tool.name)
                    or (rule.counted is Counted.COST and counts(rule, (f"{MCP}/{name}",), (MCP,)))
                )
            ),
        )

    def _tools(self) -> Iterator[tuple[str, Tool | RemoteTool]]:
        for server in self._servers:
            yield from ((server.name, tool) for tool in server.tools)
            yield from ((server.name, tool) for tool in server.allowed)

    def _tool_stages(self, name: str, stages: Mapping[str, Mapping[str, Any]]) -> Sequence[Stage]:
        return self.stages(self._tool_model(name, stages))

    def _tool_model(self, name: str, stages: Mapping[str, Mapping[str, Any]]) -> ModelPolicy:
        route = f"{MCP}.{self.policy.tenant}"
        return ModelPolicy(provider=MCP, model=name, route_name=route, stages=stages)

    def route(self, model: ModelPolicy, router: Router) -> Route | None:
        """The model's targets with their health; None where it has one that is asked directly."""
        if model.routing is None:
            return None
        found = self._routes.get(key := _key(model))
        if found is None:
            found = self._routes[key] = router.route(model, model.routing)
        return found

    def without(self, model: ModelPolicy, providers: frozenset[str]) -> ModelPolicy | None:
        """The model with its targets of other providers only, the same one each time; None: it has none."""
        key = model.qualified, providers
        if key not in self._others:
            left = tuple(t for t in model.targets if provider_of(model, t) not in providers)
            found = replace(model, targets=left) if left and model.routing is not None else None
            self._others[key] = found
        return self._others[key]

    def model(self, qualified: str) -> ModelPolicy | None:
        """The model called ``provider/model``."""
        return next((m for m in self.policy.models if m.qualified == qualified), None)


def _key(model: ModelPolicy) -> tuple[str, ...]:
    """Tells a model from the same one with fewer targets."""
    return model.qualified, *[target.id for target in model.targets]
