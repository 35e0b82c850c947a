"""Each format as a whole, in files; `python tests/unit/egress/core/test_formats.py` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.config import emit
from tenantgate.egress.core.formats import FORMATS, NOTES, objects, squid
from tenantgate.egress.core.rules import Rules, Selection, rules
from tenantgate.policy.core.egress import patterns, permits

EXPECTED = Path(__file__).parent / "expected"
ALLOW = (
    "api.openai.com",
    "*.openai.azure.com",
    "http://plain.example",
    "llm.example:8443",
    "10.1.2.3:8443",
    "[fd00::1]",
    "10.9.0.0/16",
    "http://127.0.0.1:8089",
)
SERVICES = (
    ("redis.kong", 6379),
    ("pg.example.com", 5432),
    ("10.4.4.4", 6380),
    ("127.0.0.1", 6379),
    ("localhost", 1),
)
SELECTION = Selection("tenantgate-egress", "kong", (("app.kubernetes.io/name", "kong"),))


def made() -> Rules:
    return rules(ALLOW, SERVICES)


def text(form: str) -> str:
    if form == "proxy":
        return squid(made())
    return "---\n".join(emit.dump(tree) for tree in objects(form, made(), SELECTION))


def path(form: str) -> Path:
    return EXPECTED / f"{form}.{'conf' if form == 'proxy' else 'yaml'}"


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_as_a_whole(form: str) -> None:
    assert text(form) == path(form).read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_says_what_it_can_not_do(form: str) -> None:
    assert len(NOTES[form]) > 100


def blocks(rule: dict[str, Any]) -> list[str]:
    return [to["ipBlock"]["cidr"] for to in rule["to"] if "ipBlock" in to]


def test_what_stays_on_the_machine_needs_no_rule() -> None:
    for form in FORMATS:
        assert not re.search(r"127\.0\.0\.1|localhost|8089", text(form)), form


def test_public_addresses_leave_out_private_ones_and_metadata() -> None:
    (policy,) = objects("kubernetes", made(), SELECTION)
    public = next(rule for rule in policy["spec"]["egress"] if "0.0.0.0/0" in blocks(rule))
    excepted = public["to"][0]["ipBlock"]["except"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "168.63.129.16/32"} <= set(excepted)
    assert [port["port"] for port in public["ports"]] == [80, 443, 8443]


def test_an_empty_list_leaves_the_resolver_alone() -> None:
    (policy,) = objects("kubernetes", rules((), ()), SELECTION)
    assert len(policy["spec"]["egress"]) == 1
    (policy,) = objects("cilium", rules((), ()), SELECTION)
    assert len(policy["spec"]["egress"]) == 1
    assert [tree["kind"] for tree in objects("istio", rules((), ()), SELECTION)] == ["Sidecar"]
    assert squid(rules((), ())).endswith("http_access deny all\n")
    assert "allow" not in squid(rules((), ()))


def test_each_name_over_tls_has_its_server_name() -> None:
    (policy,) = objects("cilium", made(), SELECTION)
    for rule in policy["spec"]["egress"]:
        for name in rule.get("toFQDNs", ()):
            (ports,) = rule["toPorts"]
            tls = ports["ports"][0]["port"] in ("443", "8443")
            assert ports.get("serverNames") == ([next(iter(name.values()))] if tls else None)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "apiXopenai.com",
        "a.api.openai.com",
        "api.openai.com.evil.example",
        "a.openai.azure.com",
        "a.b.openai.azure.com",
        "openai.azure.com",
        ".openai.azure.com",
        "evilopenai.azure.com",
        "llm.example",
    ],
)
def test_a_proxy_permits_what_the_list_does(host: str) -> None:
    expressions = re.findall(r"acl tenantgate_names_1 dstdom_regex -i (.*)", squid(made()))
    found = any(re.search(expression, host) for expression in expressions)
    assert found is permits(patterns(ALLOW), "https", host, 443)


if __name__ == "__main__":
    for each in FORMATS:
        path(each).write_text(text(each), encoding="utf-8")
        if each != "proxy":
            assert list(yaml.safe_load_all(text(each)))
