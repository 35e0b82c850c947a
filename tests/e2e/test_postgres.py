"""Kong and the policies in PostgreSQL: what only a real Kong with a database shows. Skipped on the embedded host."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.apply.admin_api import AdminApi
from tenantgate.apply.core.entities import KINDS, from_tree
from tenantgate.cli import main
from tenantgate.config import load
from tenantgate.config.render import render
from tenantgate.devhost.client import Client
from tenantgate.devhost.postgres_server import find, kong_settings
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.stack import Stack
from tenantgate.errors import ConfigError, EdgeError

from support import until

pytestmark = pytest.mark.e2e

TENANTS = """
version: 1
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models: [{provider: mock, model: mock-small}]
    cache: {enabled: false}
"""


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class Site:
    """A gateway with a database, and `tenantgate` as its operator types it."""

    stack: Stack
    file: Path
    out: Any = None

    @property
    def admin(self) -> AdminApi:
        return AdminApi(self.stack.admin_url)

    def run(self, *words: str, wanted: int = 0) -> str:
        self.out.readouterr()
        status = main([*words, "-f", str(self.file), "--state-dir", str(self.stack.secrets_file.parent)])
        said = self.out.readouterr()
        assert status == wanted, said
        return str(said.out)

    def write(self, *more: str) -> None:
        """acme, and these tenants."""
        tree = yaml.safe_load(TENANTS)
        tree["tenants"] += [
            {**tree["tenants"][0], "id": name, "api_keys": [f'${{{{ env "DECK_{name.upper()}" }}}}']}
            for name in more
        ]
        self.file.write_text(yaml.safe_dump(tree))

    def answers(self, key: str) -> int:
        return int(
            Client(f"{self.stack.proxy_url}/v1/chat/completions", key, "")
            .chat("Hi", model="mock-small")
            .status
        )

    def status(self, path: str) -> int:
        return status(path, int(self.stack.proxy_url.rpartition(":")[2]))


def status(path: str, port: int) -> int:
    """Of one request, 0 while nobody listens."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as asked:
        try:
            asked.request("GET", path)
            return asked.getresponse().status
        except ConnectionRefusedError:
            return 0


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    binary = request.config.getoption("--kong-bin")
    if binary is None:
        pytest.skip("needs --kong-bin: the embedded host has no database")
    try:
        find()
    except ConfigError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("pg")
    (folder / "tenants.yaml").write_text(TENANTS)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACME", "GLOBEX", "INITECH"):
            patch.setenv(f"DECK_{name}", f"key-of-{name.lower()}")
        patch.setenv("TENANTGATE_CACHE_KEY", "c" * 32)  # no secret is left to be made up
        file = folder / "tenants.yaml"
        with Stack(
            tenants=file, state_dir=folder / "gw", kong_bin=binary, postgres="", processes="1"
        ) as stack:
            site = Site(stack, file)
            # The node has its copy of the policies before `up` says that it serves.
            assert site.answers("key-of-acme") == 200
            yield site


@pytest.fixture
def site(started: Site, capsys: pytest.CaptureFixture[str]) -> Site:
    started.out = capsys
    started.write()
    started.run("apply")
    return started


def test_the_admin_api_answers_at_its_root(site: Site) -> None:
    configuration = site.admin.get("/")["configuration"]
    assert configuration["database"] == "postgres"
    assert site.run("drift") == "no drift\n"
    assert site.run("apply", "--dry-run").startswith("no changes")


def test_what_was_changed_by_hand_is_named_and_mended(site: Site) -> None:
    api = site.admin
    service = api.get("/services/llm")
    plugins = {p["name"]: p for p in api.listed("plugins") if (p["service"] or {}).get("id") == service["id"]}
    route = api.get("/routes/llm.models")
    api.send("PATCH", f"/plugins/{plugins['key-auth']['id']}", {"config": {"key_in_query": True}}, what="")
    api.send("PATCH", f"/plugins/{plugins['tenantgate-target']['id']}", {"enabled": False}, what="")
    # Neither of both is said by what was applied, so Kong's defaults decide.
    api.send("PATCH", f"/routes/{route['id']}", {"hosts": ["elsewhere.test"]}, what="")
    api.send("DELETE", "/routes/llm.messages", what="")
    api.send("POST", "/services", {"name": "left", "host": "h", "tags": ["tenantgate"]}, what="")
    api.send("POST", "/consumers/tenant_acme/key-auth", {"key": "key-of-somebody"}, what="")
    api.send("POST", "/services/llm/plugins", {"name": "rate-limiting", "config": {"minute": 9}}, what="")
    said = [
        line.partition("/: ")[0].split(": ", 1)[1] for line in site.run("drift", wanted=1).splitlines()[:-1]
    ]
    assert said == [
        "changed: plugin key-auth of service llm: config.key_in_query",
        "changed: plugin tenantgate-target of service llm: enabled",
        "missing: route llm.messages",
        "changed: route llm.models: hosts",
        "extra: service left",
        "extra: a key of consumer tenant_acme",
        "not ours: plugin rate-limiting of service llm",
    ]
    site.run("apply")
    assert site.run("drift").splitlines()[-1] == "no drift"
    assert [p["name"] for p in api.listed("plugins") if "tenantgate" not in (p["tags"] or ())] == [
        "rate-limiting"
    ]


def dying_after(writes: int) -> Callable[..., Any]:
    """`AdminApi.send` of a process that is killed after so many writes."""
    sent, numbers = AdminApi.send, itertools.count()

    def send(self: AdminApi, method: str, path: str, *args: Any, **more: Any) -> Any:
        if method != "GET" and next(numbers) >= writes:
            raise KilledError
        return sent(self, method, path, *args, **more)

    return send


def test_an_apply_that_was_killed_anywhere_is_finished_by_the_next_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in (0, 1, 2):  # the consumer, its key, and the gone consumer
        site.write("globex")
        site.run("apply")
        site.write("initech")
        with monkeypatch.context() as patch:
            patch.setattr(AdminApi, "send", dying_after(last))
            with pytest.raises(KilledError):
                site.run("apply")
        site.run("drift", wanted=1)
        site.run("apply")
        assert site.run("drift").splitlines()[-1] == "no drift"
        until(lambda: site.answers("key-of-initech"), lambda s: s == 200, what="the new tenant")
        until(lambda: site.answers("key-of-globex"), lambda s: s == 401, what="the gone tenant")
        assert site.answers("key-of-acme") == 200


def test_a_rollback_takes_a_tenants_policy_and_its_key_goes_with_the_next_apply(site: Site) -> None:
    before = site.run("history", "-n", "1").split()[0]
    site.write("globex")
    site.run("apply")
    until(lambda: site.answers("key-of-globex"), lambda s: s == 200, what="the new tenant")
    site.run("rollback", before)
    until(lambda: site.answers("key-of-globex"), lambda s: s == 403, what="the new tenant without a policy")
    assert "policies: globex: added" in site.run("drift", wanted=1)
    site.write()
    site.run("apply")
    until(lambda: site.answers("key-of-globex"), lambda s: s == 401, what="the gone tenant")
    assert site.run("drift").splitlines()[-1] == "no drift"


def test_kongs_own_schemas_take_what_deck_gets(site: Site) -> None:
    tree = yaml.safe_load(render(load(site.file), environ={"DECK_ACME": "k"}))
    checked = set()
    for entity in from_tree(tree):
        owners = {o: {"id": v} for o in ("service", "route", "consumer") if (v := entity.fields.get(o))}
        body = {"id": entity.id, **entity.fields, **owners}
        kind = "keyauth_credentials" if entity.kind == "keyauth_credentials" else entity.kind
        site.admin.send("POST", f"/schemas/{kind}/validate", body, what=f"{kind} {entity.name}")
        checked.add(entity.kind)
    # TLS is in tests/e2e/test_tls.py.
    assert checked == set(KINDS) - {"certificates", "snis"}


def test_the_order_of_an_uninstall(site: Site, tmp_path: Path) -> None:
    """Last in the file: nothing is left of the gateway."""
    api = site.admin
    api.send("PUT", "/services/own", {"url": site.stack.mock_url}, what="")
    api.send("PUT", "/routes/own", {"service": {"name": "own"}, "paths": ["/own"]}, what="")
    answer = {"name": "request-termination", "config": {"status_code": 204}}
    api.send("POST", "/routes/own/plugins", answer, what="")
    until(lambda: site.status("/own"), lambda s: s == 204, what="a route of one's own")
    # Wrong: kong.conf first. A Kong whose database has a plugin that it doesn't know doesn't start.
    conf = site.stack.secrets_file.parent / "kong.conf"
    without = tmp_path / "kong.conf"
    text = re.sub(r"(?m)^(pluginserver_\w+|lua_package_path|nginx_http_include) = .*\n", "", conf.read_text())
    text = re.sub(r"(?m)^(plugins|vaults) = .*$", r"\1 = bundled", text)
    port = free_port()
    text = re.sub(r"(?m)^(admin|status)_listen = .*$", r"\1_listen = off", text)
    without.write_text(re.sub(r"(?m)^proxy_listen = .*$", f"proxy_listen = 127.0.0.1:{port}", text))
    environ = site.stack.environ | kong_settings(site.stack.database)
    other = RealKong(site.stack.kong_bin, without, tmp_path / "prefix", log=tmp_path / "log")
    with pytest.raises(EdgeError, match="in use but not enabled"):
        other.start(environ)
    # Right: the entities first. Meanwhile no route is there without its plugins.
    seen: set[tuple[str, int]] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.update((path, site.status(path)) for path in ("/v1/models", "/own"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert main(["uninstall", "--admin-url", site.stack.admin_url]) == 1
        assert main(["uninstall", "--admin-url", site.stack.admin_url, "--yes"]) == 0
        until(lambda: site.status("/v1/models"), lambda s: s == 404, what="no route of ours")
    finally:
        stop.set()
        asking.join()
    assert seen == {("/v1/models", 401), ("/v1/models", 404), ("/own", 204)}
    assert [s["name"] for s in api.listed("services")] == ["own"]
    other.start(environ)
    try:
        until(lambda: status("/own", port), lambda s: s == 204, what="a Kong without Tenantgate")
    finally:
        other.stop()
