"""OpenTelemetry's gen_ai conventions: every name of theirs that leaves Tenantgate, by their version.

None of these names is stable, so a sink says by which version it wants them. A field of the record that a version has
no name for goes out as ``tenantgate.`` and its path.
Source: https://github.com/open-telemetry/semantic-conventions/tree/v1.36.0/docs/gen-ai,
https://github.com/open-telemetry/semantic-conventions-genai/tree/main/docs/gen-ai
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "CONVENTIONS",
    "DURATION_BOUNDS_S",
    "FIRST_TOKEN_BOUNDS_S",
    "OPERATION_DURATION",
    "PROVIDERS",
    "TIME_TO_FIRST_TOKEN",
    "TOKEN_BOUNDS",
    "TOKEN_TYPE",
    "TOKEN_USAGE",
    "VERSIONS",
    "Conventions",
]

PROVIDERS: Final = {
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
}
"""Providers that the conventions call by another name than Kong."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """One version.

    Attributes:
        attributes: by the path of a record's field the name of its attribute.
        input_messages: the attribute of what was asked; empty where messages are no attributes.
        output_messages: the attribute of what was answered.
        event: name of the log event of a request; empty where there is none.
    """

    attributes: Mapping[str, str]
    input_messages: str = ""
    output_messages: str = ""
    event: str = ""

    @property
    def metric_attributes(self) -> dict[str, str]:
        """Those of the attributes that have few values."""
        return {path: self.attributes[path] for path in _OF_METRICS}


_OF_METRICS: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
)


def _same(*paths: str) -> dict[str, str]:
    return {path: path for path in paths}


_ALWAYS: Final = _same(
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.max_tokens",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.seed",
    "gen_ai.request.choice.count",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.tool.name",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
)
_V1_41: Final = {
    **_ALWAYS,
    **_same(
        "gen_ai.provider.name",
        "gen_ai.request.stream",
        "gen_ai.usage.audio.input_tokens",
        "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
    ),
    "gen_ai.server.time_to_first_token": "gen_ai.response.time_to_first_chunk",
}
_MESSAGES: Final = ("gen_ai.input.messages", "gen_ai.output.messages")
_EVENT: Final = "gen_ai.client.inference.operation.details"

CONVENTIONS: Final[Mapping[str, Conventions]] = {
    # The last one before gen_ai.provider.name; instrumentations of that time still send it.
    "1.36": Conventions({**_ALWAYS, "gen_ai.provider.name": "gen_ai.system"}),
    "1.41": Conventions(_V1_41, *_MESSAGES, _EVENT),
    # The main branch, which has no release.
    "latest": Conventions(
        {**_V1_41, "gen_ai.usage.cache_creation.input_tokens": "gen_ai.usage.cache_write.input_tokens"},
        *_MESSAGES,
        _EVENT,
    ),
}
VERSIONS: Final = tuple(CONVENTIONS)

# -- metrics -------------------------------------------------------------------------------------------------

TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no password
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - no password
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"  # noqa: S105 - no password
TOKEN_BOUNDS: Final = tuple(4**power for power in range(14))
DURATION_BOUNDS_S: Final = tuple(0.01 * 2**power for power in range(14))
FIRST_TOKEN_BOUNDS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08),
    *(0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
