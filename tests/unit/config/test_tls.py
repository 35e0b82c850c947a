"""Certificates as Kong's entities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tenantgate.apply.core.entities import from_tree
from tenantgate.apply.core.plan import make_plan
from tenantgate.config import load_text, tls
from tenantgate.config.load import TenantsFileError
from tenantgate.config.render import entities
from tenantgate.devhost import declarative
from tenantgate.errors import ConfigError

FILE = """\
version: 1
gateway: {tls: %s}
tenants: [{id: a, api_keys: ['${{ env "DECK_A" }}']}]
"""
TWO = (
    "{certificates: [{snis: [AI.example.com, '*.example.org'], cert: '{vault://file/ai.pem}'}, "
    "{snis: ['*'], cert: '{vault://file/o.crt}', key: '{vault://file/o.key}'}]}"
)


def tree(text: str) -> Any:
    return entities(load_text(FILE % text))


def test_certificates_are_entities_with_their_names() -> None:
    first, second = tree(TWO)["certificates"]
    assert (first["cert"], first["key"]) == ("{vault://file/ai.pem}", "{vault://file/ai.pem}")
    assert [sni["name"] for sni in first["snis"]] == ["*.example.org", "ai.example.com"]
    assert (second["cert"], second["key"]) == ("{vault://file/o.crt}", "{vault://file/o.key}")
    found = from_tree({**tree(TWO), "services": [], "plugins": [], "consumers": []})
    assert [(e.kind, e.name) for e in found if e.kind == "snis"] == [
        ("snis", "*.example.org"),
        ("snis", "ai.example.com"),
        ("snis", "*"),
    ]
    assert {e.fields["certificate"] for e in found if e.kind == "snis"} == {
        e.id for e in found if e.kind == "certificates"
    }


def test_without_certificates_there_is_nothing_of_them() -> None:
    assert "certificates" not in tree("{}")
    assert "Strict-Transport" not in str(tree("{}"))
    assert "Strict-Transport-Security', 'max-age=600'" in str(tree("{hsts_max_age_s: 600}")).replace('"', "'")


def test_a_changed_file_is_a_changed_certificate_and_none_else(tmp_path: Path) -> None:
    environ = {"KONG_VAULT_FILE_PREFIX": str(tmp_path)}
    (tmp_path / "ai.pem").write_text("one")
    before = from_tree(tls.pinned(tree(TWO), environ))
    assert from_tree(tls.pinned(tree(TWO), environ)) == before
    (tmp_path / "ai.pem").write_text("two")
    after = from_tree(tls.pinned(tree(TWO), environ))
    plan = make_plan({(e.kind, e.id): e for e in before}, after, whole=False)
    (changed,) = plan.settle
    assert changed.kind == "certificates"
    assert re.fullmatch(r"\{vault://file/ai\.pem#[1-9]\d{0,14}\}", changed.fields["cert"])
    assert changed.fields["key"] == changed.fields["cert"]
    # Nothing can be told of what isn't here.
    assert {e.fields["cert"] for e in after if e.kind == "certificates"} == {
        changed.fields["cert"],
        "{vault://file/o.crt}",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{certificates: [{snis: [a.b], cert: /etc/tls.crt}]}", "cert: a secret given as a plain value"),
        (
            """{certificates: [{snis: [a.b], cert: '${{ env "DECK_C" }}'}]}""",
            "cert: must be a vault reference",
        ),
        ("{certificates: [{snis: ['a.*.b'], cert: '{vault://file/c}'}]}", "snis[0]"),
        ("{certificates: [{snis: [a.b, A.B], cert: '{vault://file/c}'}]}", None),
        (
            "{certificates: [{snis: [a.b], cert: '{vault://file/c}'}, {snis: [A.b], cert: '{vault://file/d}'}]}",
            "certificates[1].snis[0]: A.b has certificates[0] already",
        ),
    ],
)
def test_what_kong_would_refuse_is_refused_here(text: str, problem: str | None) -> None:
    if problem is None:
        load_text(FILE % text)
        return
    with pytest.raises(TenantsFileError) as caught:
        load_text(FILE % text)
    assert problem in str(caught.value)


def test_the_embedded_host_looks_whether_the_texts_are_there(tmp_path: Path) -> None:
    text = '{"_format_version": "3.0", "certificates": [{"cert": "{vault://file/c}", "key": "{vault://file/c}"}]}'
    for content in (None, "no certificate"):
        if content:
            (tmp_path / "c").write_text(content)
        with pytest.raises(ConfigError, match=r"certificates\[0\]\.cert"):
            declarative.load_text(text, external={}, files=tmp_path)
    (tmp_path / "c").write_text("-----BEGIN CERTIFICATE-----")
    declarative.load_text(text, external={}, files=tmp_path)
