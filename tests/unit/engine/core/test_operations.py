"""Which targets speak an operation, and at which address."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.engine import transforming
from tenantgate.engine.core.operations import SECTIONS, speaking
from tenantgate.features import stages
from tenantgate.llm.operations import Operation
from tenantgate.policy.core.records import Target


@pytest.mark.parametrize(
    ("provider", "options", "operation", "made"),
    [
        ("openai", {}, Operation.EMBEDDINGS, {"upstream_path": "/v1/embeddings"}),
        (
            "openai",
            {"max_tokens": 5},
            Operation.SPEECH,
            {"max_tokens": 5, "upstream_path": "/v1/audio/speech"},
        ),
        ("azure", {}, Operation.EMBEDDINGS, {"upstream_path": "/embeddings"}),
        ("mistral", {}, Operation.EMBEDDINGS, {"upstream_path": "/v1/embeddings"}),
        ("mistral", {}, Operation.IMAGES, None),
        ("anthropic", {}, Operation.EMBEDDINGS, None),
        ("gemini", {}, Operation.COMPLETIONS, None),
        (
            "openai",
            {"upstream_url": "http://h:1/openai/v1/chat/completions?a=b"},
            Operation.EMBEDDINGS,
            {"upstream_url": "http://h:1/openai/v1/embeddings?a=b", "upstream_path": "/openai/v1/embeddings"},
        ),
        ("openai", {"upstream_url": "http://h/generate"}, Operation.EMBEDDINGS, None),
    ],
)
def test_targets(provider: str, options: dict[str, Any], operation: Operation, made: Any) -> None:
    found = speaking(Target(provider=provider, name="m", options=options), operation)
    assert (None if found is None else found.options) == made


def test_every_stage_takes_part_or_is_left_out_by_name() -> None:
    """A stage that nobody has thought of here must not be left out in silence."""
    known = {plugin.section for plugin in stages()} - {
        transforming.SECTION
    }  # which knows the operations itself
    left_out = {operation: known - sections for operation, sections in SECTIONS.items()}
    assert left_out.pop(Operation.EMBEDDINGS) == {"compression"}
    assert set(map(frozenset, left_out.values())) == {frozenset({"compression", "cache"})}
    assert all(sections <= known for sections in SECTIONS.values())
