from __future__ import annotations

import pytest

from tenantgate.config import TenantsFileError, load_text
from tenantgate.config.model import Endpoint
from tenantgate.config.regions import areas, found_region, lies_within

KEY = 'credential: "{vault://env/K}"'


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("eu-central-1", {"eu-central-1", "de", "eu", "eea"}),
        ("eu-west-2", {"eu-west-2", "gb"}),
        ("eu-central-2", {"eu-central-2", "ch"}),
        ("europe-west3", {"europe-west3", "de", "eu", "eea"}),
        ("europe-west6", {"europe-west6", "ch"}),
        ("swedencentral", {"swedencentral", "se", "eu", "eea"}),
        ("norwayeast", {"norwayeast", "no", "eea"}),
        ("uksouth", {"uksouth", "gb"}),
        ("us-gov-west-1", {"us-gov-west-1", "us"}),
        ("ap-northeast-1", {"ap-northeast-1", "jp", "apac"}),
        ("de", {"de", "eu", "eea"}),
        ("uk", {"gb"}),
        ("eu", {"eu", "eea"}),
        ("us", {"us"}),
        ("cellar-2", {"cellar-2"}),
        ("global", set()),
    ],
)
def test_the_areas_of_a_region(region: str, expected: set[str]) -> None:
    assert areas(region) == expected


@pytest.mark.parametrize(
    ("region", "residency", "expected"),
    [
        ("eu-central-1", ("eu",), True),
        ("eu-central-1", ("de",), True),
        ("eu-central-1", ("fr",), False),
        ("eu-central-1", ("eu-central-1",), True),
        ("eu", ("eu-central-1",), False),
        ("eu", ("de",), False),
        ("eu", ("eea",), True),
        ("eea", ("eu",), False),
        ("gb", ("eu", "uk"), True),
        ("us-east-1", ("eu",), False),
        ("global", ("eu", "us"), False),
        ("global", ("global",), False),
        ("cellar-2", ("eu",), False),
        ("cellar-2", ("eu", "cellar-2"), True),
    ],
)
def test_a_residency(region: str, residency: tuple[str, ...], expected: bool) -> None:
    assert lies_within(region, residency) is expected


@pytest.mark.parametrize(
    ("model", "host", "expected"),
    [
        ("anthropic.claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", "eu-central-1"),
        ("eu.anthropic.claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", "eu"),
        ("us.anthropic.claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", "us"),
        ("us-gov.anthropic.claude-3", "bedrock-runtime.us-gov-west-1.amazonaws.com", "us"),
        ("apac.anthropic.claude-3", "bedrock-runtime.ap-south-1.amazonaws.com", "apac"),
        ("global.anthropic.claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", "global"),
        ("emea.anthropic.claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", None),
        ("claude-3", "bedrock-runtime.eu-central-1.amazonaws.com", None),
        ("amazon.nova-lite", "bedrock-runtime-fips.us-east-1.amazonaws.com", "us-east-1"),
        ("amazon.nova-lite", "vpce-1-2.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
        (
            "arn:aws:bedrock:eu-west-1:1:inference-profile/global.anthropic.claude-3",
            "bedrock-runtime.eu-west-1.amazonaws.com",
            "global",
        ),
        (
            "arn:aws:bedrock:us-east-1:1:provisioned-model/abc",
            "bedrock-runtime.eu-west-1.amazonaws.com",
            "us-east-1",
        ),
        (
            "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc",
            "bedrock-runtime.eu-west-1.amazonaws.com",
            None,
        ),
        ("gemini", "europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ("gemini", "aiplatform.googleapis.com", "global"),
        ("gemini", "aiplatform.eu.rep.googleapis.com", "eu"),
        ("gpt", "eu.api.openai.com", "eu"),
        ("gpt", "api.openai.com", None),
        ("gpt", "swedencentral.api.cognitive.microsoft.com", "swedencentral"),
        ("m", "eu.api.openai.com.evil.example", None),
        ("m", "bedrock-runtime.eu-central-1.amazonaws.com.evil.example", None),
        ("m", "x.example", None),
    ],
)
def test_what_address_and_name_say(model: str, host: str, expected: str | None) -> None:
    assert found_region(Endpoint(provider="openai-compatible", model=model), host).name == expected


@pytest.mark.parametrize(
    ("kind", "region", "expected"),
    [
        (None, "swedencentral", None),
        ("regional", "swedencentral", "swedencentral"),
        ("regional", None, None),
        ("data-zone", "swedencentral", "eu"),
        ("data-zone", "eastus", "us"),
        ("data-zone", "uksouth", None),
        ("data-zone", None, None),
        ("global", "swedencentral", "global"),
    ],
)
def test_a_deployment_of_azure(kind: str | None, region: str | None, expected: str | None) -> None:
    endpoint = Endpoint(provider="azure", model="m", azure_deployment_type=kind, region=region)
    assert found_region(endpoint, "i.openai.azure.com").name == expected


TWO = f"name: s, targets: [{{provider: openai, model: m, {KEY}, region: de}}, {{provider: groq, model: m, {KEY}}}]"
AZURE = f"provider: azure, model: m, azure_instance: i, azure_deployment_id: d, {KEY}"


@pytest.mark.parametrize(
    ("model", "residency", "expected"),
    [
        (
            f"provider: openai, model: m, {KEY}",
            "eu",
            "]: where it runs isn't known, and residency is eu: state region",
        ),
        (
            f"provider: openai, model: m, {KEY}, region: us",
            "eu",
            "].region: runs in us (region), outside of residency",
        ),
        (f"provider: openai, model: m, {KEY}, region: eu", "eu", ""),
        (
            f"provider: openai, model: m, {KEY}, region: global",
            "eu",
            "].region: region is global: it may run anywhere",
        ),
        (
            f"provider: openai, model: m, {KEY}, upstream_url: 'https://us.api.openai.com/v1/x'",
            "eu",
            "]: runs in us (the address us.api.openai.com), outside",
        ),
        (
            f"provider: openai, model: m, {KEY}, upstream_url: 'https://us.api.openai.com/v1/x', region: eu",
            "",
            "].region: eu, but the address us.api.openai.com says us",
        ),
        (
            f"provider: openai, model: m, {KEY}, upstream_url: 'https://eu.api.openai.com/v1/x', region: eea",
            "eea",
            "",
        ),
        (
            f"{AZURE}, region: swedencentral",
            "eu",
            "isn't known, and residency is eu: state azure_deployment_type",
        ),
        (f"{AZURE}, region: swedencentral, azure_deployment_type: regional", "eu", ""),
        (f"{AZURE}, region: swedencentral, azure_deployment_type: data-zone", "eu", ""),
        (
            f"{AZURE}, region: swedencentral, azure_deployment_type: data-zone",
            "se",
            "runs in eu (azure_deployment_type",
        ),
        (
            f"{AZURE}, region: swedencentral, azure_deployment_type: global",
            "eu",
            "azure_deployment_type is global",
        ),
        (
            f"{AZURE}, azure_deployment_type: global",
            "eu",
            "azure_deployment_type is global: it may run anywhere",
        ),
        ("provider: mock, model: m", "eu", ""),
        ("provider: mock, model: m", "global", "[0].residency: global is no place"),
        (TWO, "eu", "models[0].targets[1]: where it runs isn't known"),
    ],
)
def test_a_target_outside_of_the_residency_is_refused(model: str, residency: str, expected: str) -> None:
    own = f"    residency: [{residency}]\n" if residency else ""
    text = (
        "version: 1\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n"
        f"{own}    models: [{{{model}}}]\n"
    )
    found: list[str] = []
    try:
        load_text(text)
    except TenantsFileError as error:
        found = list(error.problems)
    assert len(found) == bool(expected), found
    assert expected in "".join(found)


def test_a_tenants_own_residency_replaces_the_usual_one() -> None:
    text = (
        "version: 1\ndefaults: {residency: [eu]}\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n"
        f"    residency: %s\n    models: [{{provider: openai, model: m, {KEY}, region: us}}]\n"
    )
    assert load_text(text % "[us]").tenants[0].residency == ("us",)
    assert load_text(text % "[]").tenants[0].residency == ()
    with pytest.raises(TenantsFileError):
        load_text(text % "null")
