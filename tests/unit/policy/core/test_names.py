"""Names of models, and what they mean."""

from __future__ import annotations

import pytest

from tenantgate.policy.core.names import find_model, listed_names
from tenantgate.policy.core.records import ModelPolicy, Target, TenantPolicy
from tenantgate.tenant import TenantId


def model(qualified: str, *aliases: str) -> ModelPolicy:
    provider, _, name = qualified.partition("/")
    return ModelPolicy(
        provider=provider,
        model=name,
        route_name="",
        aliases=aliases,
        targets=(Target(provider=provider, name=name),),
    )


POLICY = TenantPolicy(
    tenant=TenantId("acme"),
    models=(
        model("openai/gpt-4o", "smart"),
        model("azure/gpt-4o", "private"),
        model("groq/meta-llama/llama-3"),
        model("openai-compatible/openai/gpt-oss"),
    ),
)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("smart", "openai/gpt-4o"),
        ("gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("azure/gpt-4o", "azure/gpt-4o"),
        ("private", "azure/gpt-4o"),
        ("meta-llama/llama-3", "groq/meta-llama/llama-3"),
        ("groq/meta-llama/llama-3", "groq/meta-llama/llama-3"),
        ("openai/gpt-oss", "openai-compatible/openai/gpt-oss"),
        ("Smart", None),
        (" smart", None),
        ("", None),
        ("gpt-4o-mini", None),
        ("azure", None),
    ],
)
def test_a_name_means_one_model(name: str, means: str | None) -> None:
    found = find_model(POLICY, name)
    assert (found and found.qualified) == means


def test_each_listed_name_means_its_model() -> None:
    listed = list(listed_names(POLICY))
    assert [name for name, _ in listed] == [
        "smart",
        "private",
        "gpt-4o",
        "azure/gpt-4o",
        "meta-llama/llama-3",
        "openai/gpt-oss",
    ]
    assert all(find_model(POLICY, name) is found for name, found in listed)
