from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenantgate.config import load_text
from tenantgate.config.addresses import endpoint_url, installed, origin
from tenantgate.config.catalog import gateway_sections
from tenantgate.config.compile import compile_records
from tenantgate.config.model import Endpoint
from tenantgate.config.providers import MOCK, PROVIDERS
from tenantgate.errors import ConfigError
from tenantgate.features import stages
from tenantgate.fields import Many, Record, Table, fields_of
from tenantgate.policy.core.records import read_record


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example/x", "https://h.example"),
        ("https://h.example", "https://h.example"),
        ("https://h.example?x=1", "https://h.example"),
        ("http://h.example:8089/x", "http://h.example:8089"),
        ("https://[fd00::1]:8443/x", "https://[fd00::1]:8443"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example"),
    ],
)
def test_whom_a_url_asks(url: str, expected: str) -> None:
    assert str(origin(url)) == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://", "isn't a URL"),
        ("ftp://h.example/", "of http or https"),
        ("https://a@h.example/", "a user name or a password"),
        ("https://H.example/", "is read as https://h.example; write it so"),
        ("https://0x7f.1/", "is read as https://127.0.0.1"),
        ("https://h.example./", "a dot at the end"),
    ],
)
def test_a_url_that_does_not_say_so_plainly(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        origin(url)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_the_address_of_each_provider(name: str) -> None:
    """The one that Kong gets, or that of Kong's driver."""
    provider = PROVIDERS[name]
    values = dict.fromkeys(provider.needs, "eu-west4")
    if provider.needs_upstream_url:
        values["upstream_url"] = "https://own.example/v1/chat/completions"
    endpoint = Endpoint(provider=name, model="m", **values)
    if name == MOCK:
        return
    found = origin(endpoint_url(endpoint))
    assert "{" not in str(found)
    fields = "".join(f", {field}: '{value}'" for field, value in values.items())
    secrets = "".join(f", {field}: '{{vault://env/S}}'" for field in getattr(provider, "secrets", ()))
    key = ", credential: '{vault://env/K}'" if provider.credential else ""
    records = compile_records(
        load_text(
            "version: 1\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n"
            f"    models: [{{provider: {name}, model: m{fields}{secrets}{key}}}]\n"
        )
    )
    (target,) = read_record("a", records["a"]).models[0].targets
    if (url := target.options.get("upstream_url")) is not None:
        assert origin(url) == found


def _texts(cls: type, path: str = "") -> Iterator[tuple[str, bool]]:
    """Fields that look like an address: path, and whether they are marked as one."""
    for name, f in fields_of(cls).items():
        shape = f.shape
        while isinstance(shape, Many | Table):
            shape = shape.element if isinstance(shape, Many) else shape.values
        at = f"{path}{name}"
        if isinstance(shape, Record):
            yield from _texts(shape.cls, f"{at}.")
        elif shape.type is str:
            words = set(name.split("_"))
            if words & {"url", "uri", "endpoint", "host", "address", "server"} or "http" in (
                f.spec.match or ""
            ):
                yield at, f.spec.address


def test_every_address_of_a_feature_is_marked_as_one() -> None:
    classes = [stage.config_class for stage in stages()]
    classes += [f.shape.cls for f in gateway_sections() if isinstance(f.shape, Record)]
    found = {at: marked for cls in classes for at, marked in _texts(cls)}
    assert {at for at, marked in found.items() if marked} >= {"webhook.url", "sinks.url"}
    # Redis belongs to the installation (`installed`); at origins requests come from, and never go to; and these of
    # OAuth are names alone.
    names = {"origins", "oauth.resource", "oauth.issuers.issuer"}
    assert not [at for at, marked in found.items() if not marked and "redis." not in at and at not in names]


def test_services_of_the_installation() -> None:
    text = (
        "version: 1\ngateway: {redis: {host: r.example}, rate_limiting: {redis: {host: 10.0.0.1, port: 1}}, policy: "
        "{store: '%s'}}\ntenants:\n  - {id: a, api_keys: ['${{ env \"DECK_A\" }}']}\n"
    )
    found = list(installed(load_text(text % "postgresql://u@pg.example/db")))
    assert [(s.path, s.host, s.port) for s in found] == [
        ("gateway.redis", "r.example", 6379),
        ("gateway.rate_limiting.redis", "10.0.0.1", 1),
        ("gateway.policy.store", "pg.example", 5432),
    ]
    assert len(list(installed(load_text(text % "{vault://env/X}")))) == 2
    nodes = "version: 1\ngateway: {redis: {cluster_nodes: [{ip: a}, {ip: b, port: 7}]}}\ntenants:\n  - "
    cluster = installed(load_text(nodes + "{id: a, api_keys: ['${{ env \"DECK_A\" }}']}\n"))
    assert [(s.host, s.port) for s in cluster] == [("a", 6379), ("b", 7)]
