"""Where a model runs: what its provider, address and name say, and the areas that a region lies in. Pure.

A region is a cloud's name for one (``eu-central-1``, ``europe-west3``, ``swedencentral``), a country's code (``de``),
an area (``eu``, ``eea``, ``us``, ``apac``), or a word of the operator's own, which lies in no area.

Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html,
https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html,
https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations,
https://learn.microsoft.com/azure/ai-foundry/foundry-models/concepts/deployment-types,
https://learn.microsoft.com/azure/reliability/regions-list, https://platform.openai.com/docs/guides/your-data
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tenantgate.config.model import Endpoint

__all__ = ["GLOBAL", "Region", "areas", "found_region", "lies_within"]

GLOBAL: Final = "global"
"""Nobody can say where such a model runs."""

_AWS: Final = {
    "ae": "me-central-1",
    "au": "ap-southeast-2 ap-southeast-4",
    "bh": "me-south-1",
    "br": "sa-east-1",
    "ca": "ca-central-1 ca-west-1",
    "ch": "eu-central-2",
    "cn": "cn-north-1 cn-northwest-1",
    "de": "eu-central-1 eusc-de-east-1",
    "es": "eu-south-2",
    "fr": "eu-west-3",
    "gb": "eu-west-2",
    "hk": "ap-east-1",
    "id": "ap-southeast-3",
    "ie": "eu-west-1",
    "il": "il-central-1",
    "in": "ap-south-1 ap-south-2",
    "it": "eu-south-1",
    "jp": "ap-northeast-1 ap-northeast-3",
    "kr": "ap-northeast-2",
    "mx": "mx-central-1",
    "my": "ap-southeast-5",
    "nz": "ap-southeast-6",
    "se": "eu-north-1",
    "sg": "ap-southeast-1",
    "th": "ap-southeast-7",
    "tw": "ap-east-2",
    "us": "us-east-1 us-east-2 us-west-1 us-west-2 us-gov-east-1 us-gov-west-1",
    "za": "af-south-1",
}
_GOOGLE: Final = {
    "au": "australia-southeast1 australia-southeast2",
    "be": "europe-west1",
    "br": "southamerica-east1",
    "ca": "northamerica-northeast1 northamerica-northeast2",
    "ch": "europe-west6",
    "cl": "southamerica-west1",
    "de": "europe-west3 europe-west10",
    "es": "europe-southwest1",
    "fi": "europe-north1",
    "fr": "europe-west9",
    "gb": "europe-west2",
    "hk": "asia-east2",
    "id": "asia-southeast2",
    "il": "me-west1",
    "in": "asia-south1 asia-south2",
    "it": "europe-west8 europe-west12",
    "jp": "asia-northeast1 asia-northeast2",
    "kr": "asia-northeast3",
    "mx": "northamerica-south1",
    "nl": "europe-west4",
    "pl": "europe-central2",
    "qa": "me-central1",
    "sa": "me-central2",
    "se": "europe-north2",
    "sg": "asia-southeast1",
    "th": "asia-southeast3",
    "tw": "asia-east1",
    "us": "us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4",
    "za": "africa-south1",
}
_AZURE: Final = {
    "ae": "uaenorth uaecentral",
    "at": "austriaeast",
    "au": "australiaeast australiasoutheast australiacentral australiacentral2",
    "be": "belgiumcentral",
    "br": "brazilsouth brazilsoutheast",
    "ca": "canadacentral canadaeast",
    "ch": "switzerlandnorth switzerlandwest",
    "cl": "chilecentral",
    "de": "germanywestcentral germanynorth",
    "dk": "denmarkeast",
    "es": "spaincentral",
    "fr": "francecentral francesouth",
    "gb": "uksouth ukwest",
    "hk": "eastasia",
    "id": "indonesiacentral",
    "ie": "northeurope",
    "il": "israelcentral",
    "in": "centralindia southindia westindia jioindiawest jioindiacentral",
    "it": "italynorth",
    "jp": "japaneast japanwest",
    "kr": "koreacentral koreasouth",
    "mx": "mexicocentral",
    "my": "malaysiawest",
    "nl": "westeurope",
    "no": "norwayeast norwaywest",
    "nz": "newzealandnorth",
    "pl": "polandcentral",
    "qa": "qatarcentral",
    "se": "swedencentral swedensouth",
    "sg": "southeastasia",
    "tw": "taiwannorth",
    "us": "centralus eastus eastus2 northcentralus southcentralus westcentralus westus westus2 westus3 usgovvirginia "
    "usgovarizona usgovtexas",
    "za": "southafricanorth southafricawest",
}
_COUNTRY: Final = {
    region: country
    for cloud in (_AWS, _GOOGLE, _AZURE)
    for country, regions in cloud.items()
    for region in regions.split()
}
_ALIASES: Final = {"uk": "gb"}
_EU: Final = frozenset(
    "at be bg cy cz de dk ee es fi fr gr hr hu ie it lt lu lv mt nl pl pt ro se si sk".split()
)
_AREAS: Final = {
    "eu": _EU,
    "eea": _EU | {"is", "li", "no"},
    "apac": frozenset("au hk id in jp kr my nz sg th tw".split()),
}

_BEDROCK_PROFILES: Final = {
    "apac": "apac",
    "au": "au",
    "ca": "ca",
    "eu": "eu",
    GLOBAL: GLOBAL,
    "jp": "jp",
    "us": "us",
    "us-gov": "us",
}
"""Prefixes of inference profiles' ids, and the areas to whose regions they send a request."""
_BEDROCK_VENDORS: Final = frozenset(
    "ai21 amazon anthropic cohere deepseek google luma meta minimax mistral moonshot moonshotai nvidia openai qwen "
    "stability twelvelabs writer zai".split()
)
_BEDROCK_HOST: Final = re.compile(
    r"(?:.+\.)?(?:vpce-[^.]+\.)?bedrock-runtime(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?"
)
_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:(?P<region>[a-z0-9-]*):[^:]*:(?P<kind>[a-z-]+)/(?P<id>.+)")
_HOSTS: Final = (
    re.compile(r"(?P<region>[a-z]+-[a-z]+[0-9]+)-aiplatform\.googleapis\.com"),
    re.compile(r"aiplatform\.(?P<region>[a-z0-9-]+)\.rep\.googleapis\.com"),
    re.compile(r"(?P<region>[a-z]{2})\.api\.openai\.com"),
    re.compile(r"(?P<region>[a-z0-9]+)\.api\.cognitive\.microsoft\.com"),
)
_GLOBAL_HOSTS: Final = frozenset({"aiplatform.googleapis.com"})


@dataclass(frozen=True, slots=True)
class Region:
    """A model's region."""

    name: str | None
    """None: nobody says."""
    said_by: str
    """The field or the part of the model that says so, or would say so."""


def areas(region: str) -> frozenset[str]:
    """All that a region lies in, itself included: ``{eu-central-1, de, eu, eea}``; of `GLOBAL`, nothing."""
    region = _ALIASES.get(region, region)
    if region == GLOBAL:
        return frozenset()
    country = _COUNTRY.get(region, region)
    within = {name for name, countries in _AREAS.items() if country in countries}
    if country == "eu":
        within.add("eea")
    return frozenset({region, country, *within})


def lies_within(region: str, residency: tuple[str, ...]) -> bool:
    """Whether a region lies in one of these."""
    return not areas(region).isdisjoint(_ALIASES.get(name, name) for name in residency)


def found_region(endpoint: Endpoint, host: str) -> Region:
    """Where a model runs, by what is known of it; `host` is that of its address."""
    stated = Region(endpoint.region, "region")
    if endpoint.provider == "bedrock" or _BEDROCK_HOST.fullmatch(host):
        return _bedrock(endpoint, host, stated)
    if endpoint.provider == "azure":
        return _azure(endpoint, stated)
    if host in _GLOBAL_HOSTS:
        return Region(GLOBAL, f"the address {host}")
    if location := endpoint.gcp_location_id:
        return Region(location, "gcp_location_id")
    for form in _HOSTS:
        if found := form.fullmatch(host):
            return Region(found["region"], f"the address {host}")
    return stated


def _bedrock(endpoint: Endpoint, host: str, stated: Region) -> Region:
    """An inference profile sends requests to the regions of its area, wherever it is called."""
    name, region = endpoint.model or "", endpoint.aws_region
    source = "aws_region"
    if found := _BEDROCK_HOST.fullmatch(host):
        region, source = found["region"], f"the address {host}"
    if found := _ARN.fullmatch(name):
        region, source, name = found["region"] or region, "the model's ARN", found["id"]
        if found["kind"] in ("provisioned-model", "imported-model", "custom-model-deployment"):
            return Region(region, source)
        if found["kind"] not in ("inference-profile", "foundation-model"):
            return stated  # an application's own profile: its ARN doesn't say where that leads
    first = name.partition(".")[0]
    if first in _BEDROCK_PROFILES:
        return Region(_BEDROCK_PROFILES[first], f"the inference profile {first}.")
    if first not in _BEDROCK_VENDORS:
        return stated
    return Region(region, source)


def _azure(endpoint: Endpoint, stated: Region) -> Region:
    """A deployment's type says whether its region is where requests are answered."""
    kind = endpoint.azure_deployment_type
    if kind is None:
        return Region(None, "azure_deployment_type")
    if kind == "global":
        return Region(GLOBAL, "azure_deployment_type")
    if kind == "data-zone":
        zone = next((zone for zone in ("eu", "us") if zone in areas(endpoint.region or "")), None)
        return Region(zone, "azure_deployment_type and region")
    return stated
