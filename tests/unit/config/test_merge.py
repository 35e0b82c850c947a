"""Into one's own kong.yml: what isn't ours stays as it is, what was ours goes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.config import load
from tenantgate.config.diff import compare
from tenantgate.config.merge import merge, without_ours
from tenantgate.config.render import entities
from tenantgate.errors import ConfigError

from support import ROOT

OURS = entities(load(ROOT / "tenants.yaml")) | {
    "certificates": [
        {
            "id": "c",
            "cert": "x",
            "tags": ["tenantgate"],
            "snis": [{"name": "ai.example", "tags": ["tenantgate"]}],
        }
    ]
}
TAGS = st.sampled_from([[], ["theirs"], ["tenantgate"], ["tenantgate", "x"]])
PLUGINS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["rate-limiting", "cors", "post-function"]), "tags": TAGS}
    ),
    max_size=2,
)
ROUTES = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("rs"), "tags": TAGS, "plugins": PLUGINS}), max_size=2
)
SERVICES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("ab"), "tags": TAGS, "routes": ROUTES, "plugins": PLUGINS}
    ),
    max_size=3,
)
TREES = st.fixed_dictionaries(
    {"_format_version": st.just("3.0"), "services": SERVICES, "plugins": PLUGINS},
    optional={
        "upstreams": st.just([{"name": "u"}]),
        "consumers": st.just([{"username": "somebody"}]),
        "certificates": st.lists(st.fixed_dictionaries({"cert": st.just("y"), "tags": TAGS}), max_size=2),
    },
)


@given(TREES)
def test_others_stay_and_a_second_time_changes_nothing(theirs: dict[str, Any]) -> None:
    merged = merge(theirs, OURS)
    kept = without_ours(theirs)
    assert without_ours(merged) == {**{kind: [] for kind in OURS if kind not in kept}, **kept} | {
        "_format_version": "3.0"
    }
    assert merge(merged, OURS) == merged
    alone = {"_format_version": "3.0"}
    # A gateway-wide plugin of one's own stays in place of ours.
    assert set(compare(alone, OURS)) - set(compare(alone, merged)) <= {
        f"+ {n} of all" for n in ("post-function",)
    }


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({"services": [{"name": "llm"}]}, "services: llm is there already"),
        ({"consumers": [{"username": "tenant_acme"}]}, "consumers: tenant_acme is there already"),
        ({"snis": [{"name": "ai.example"}]}, "snis: ai.example is there already"),
        ({"certificates": [{"cert": "y", "snis": ["ai.example"]}]}, "snis: ai.example is there already"),
        ({"_format_version": "9"}, "_format_version"),
    ],
)
def test_what_cant_stand_beside_ours_is_named(theirs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        merge({"_format_version": "3.0"} | theirs, OURS)


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no kong"):
        merge({"version": 1, "tenants": []}, OURS)


def test_our_certificates_take_the_place_of_our_former_ones() -> None:
    def tree(tag: str, name: str) -> dict[str, Any]:
        return {
            "_format_version": "3.0",
            "certificates": [{"id": name, "cert": "c", "key": "k", "tags": [tag]}],
            "snis": [{"name": f"{name}.example", "certificate": {"id": name}, "tags": [tag]}],
        }

    theirs, former, new = tree("theirs", "a"), tree("tenantgate", "b"), tree("tenantgate", "d")
    both = {kind: [*theirs[kind], *former[kind]] for kind in ("certificates", "snis")}
    merged = merge(theirs | both, new)
    assert [c["id"] for c in merged["certificates"]] == ["a", "d"]
    assert [s["name"] for s in merged["snis"]] == ["a.example", "d.example"]
