"""The mirror between a reference platform and a policy store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_rig import TOKEN, Platform, budget, requests_limit
from tenantgate import cli
from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.platform import client as clients
from tenantgate.platform.client import Client, Listing, PlatformError, Unchanged
from tenantgate.platform.config import Platform as Settings
from tenantgate.platform.last_good import CopyFile
from tenantgate.platform.mirror import Laid, Mirror, Pulled
from tenantgate.policy.core.ports import PublishNote, roll_back
from tenantgate.policy.core.records import Blocked, TenantPolicy, read_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore

FILE: Final = """
version: 1
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME" }}']
    models:
      - {provider: mock, model: small, aliases: [fast], input_cost: 1, output_cost: 2}
      - {provider: mock, model: free}
    token_limits: [{name: own, limit: 7, count: requests}]
  - id: globex
    api_keys: ['${{ env "DECK_GLOBEX" }}']
    models: [{provider: mock, model: small, input_cost: 1, output_cost: 2}]
"""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    running = Platform()
    yield running
    running.stop()


class World:
    """A mirror with a clock of its own."""

    def __init__(self, platform: Platform, folder: Path, **settings: Any) -> None:
        self.platform, self.folder, self.now = platform, folder, 1000.0
        self.settings = Settings(
            url=platform.url, token="t", path=str(folder / "platform.json"), timeout_s=1, **settings
        )
        self.store = SqlitePolicyStore(folder / "policy.sqlite")
        self.apply(FILE)
        self.mirror = self.restarted()

    def restarted(self, token: str = TOKEN) -> Mirror:
        client = Client(self.settings.url or "", token, timeout_s=self.settings.timeout_s)
        file = CopyFile(Path(self.settings.path))
        self.mirror = Mirror(self.settings, client, file, self.store, receivers=["ops"], now=lambda: self.now)
        return self.mirror

    def apply(self, text: str) -> None:
        records = compile_records(load_text(text))
        note = PublishNote("ops", "", 1.0)
        self.store.publish(dict(records), expected=self.store.head(), note=note)

    def policy(self, tenant: str = "acme") -> TenantPolicy:
        raw = self.store.record(tenant)
        assert raw is not None
        return read_record(tenant, raw)

    def names(self, tenant: str = "acme") -> list[str]:
        policy = self.policy(tenant)
        return [v["name"] for v in (*policy.token_limits, *policy.budgets)]

    def laid(self) -> Laid:
        return self.mirror.lay_over(publish=False)


@pytest.fixture
def world(platform: Platform, tmp_path: Path) -> Iterator[World]:
    platform.fail()
    platform.put()
    made = World(platform, tmp_path)
    yield made
    made.store.close()


# -- what comes into force -----------------------------------------------------------------------------------


def test_the_platforms_lists_stand_in_place_of_the_files(world: World) -> None:
    limit = {**requests_limit(), "match": {"models": ["fast"]}, "window": "1m"}
    world.platform.put({"id": "acme", "token_limits": [limit]}, {"id": "globex", "enabled": False})
    world.mirror.step()
    assert world.policy().token_limits == (
        {"name": "minute", "limit": 100, "count": "requests", "match": {"models": ["mock/small"]}},
    )
    assert world.policy("globex").blocked is Blocked.DISABLED
    world.platform.put({"id": "acme"})
    world.mirror.step()
    assert world.names() == ["own"]
    assert world.policy("globex").blocked is None


def test_an_unchanged_list_is_neither_sent_nor_published_again(world: World) -> None:
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    assert world.mirror.pull() is Pulled.CHANGED
    world.mirror.lay_over()
    head = world.store.head()
    assert world.mirror.pull() is Pulled.UNCHANGED
    world.mirror.step()
    world.restarted().step()
    assert world.store.head() == head


def test_a_rollback_of_the_policies_leaves_the_platforms_limits(world: World) -> None:
    before = world.store.head()
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    roll_back(world.store, before, expected=world.store.head(), note=PublishNote("ops", "", 1.0))
    assert world.names() == ["own"]
    world.mirror.step()
    assert world.names() == ["minute"]


def test_a_tenant_that_an_apply_adds_gets_its_limits_without_a_change_of_the_list(world: World) -> None:
    world.platform.put({"id": "new", "token_limits": [requests_limit()]})
    world.mirror.step()
    assert world.laid().unknown == ("new",)
    world.apply(FILE + FILE[FILE.index("  - id: globex") :].replace("globex", "new").replace("GLOBEX", "NEW"))
    world.mirror.step()
    assert world.names("new") == ["minute"]
    assert world.laid() == Laid(unlisted=2)


def test_an_apply_leaves_the_platforms_limits_in_force(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DECK_ACME", "DECK_GLOBEX", "PLATFORM_TOKEN"):
        monkeypatch.setenv(name, f"{TOKEN}{name.removeprefix('PLATFORM_TOKEN')}")
    text = FILE.replace("limit: 7", "limit: 8") + (
        f"gateway: {{platform: {{url: '{world.platform.url}', token: '{{vault://env/PLATFORM_TOKEN}}'}}}}\n"
    )
    file, path = world.folder / "tenants.yaml", str(world.folder / "policy.sqlite")
    file.write_text(text)
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    common = [str(file), "--policy-path", path]
    copy = ["--copy", world.settings.path]
    assert cli.main(["platform", "pull", *common, *copy]) == 0
    assert cli.main(["apply", *common, "--kong-config", str(world.folder / "kong.json")]) == 0
    assert world.names() == ["minute"]
    assert cli.main(["platform", "status", *common, *copy]) == 0
    world.platform.put()
    assert cli.main(["platform", "pull", "--dry-run", *common, *copy]) == 1
    assert cli.main(["platform", "pull", *common, *copy]) == 0
    assert world.policy().token_limits[0]["limit"] == 8


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"budgets": "none"}, "budgets: must be a list of at most 100 entries"),
        ({"budgets": [{"name": "b", "max_budget": 1, "limit": 1}]}, "budgets[0].limit: unknown field"),
        ({"budgets": [{"name": "b", "max_budget": -1}]}, "budgets[0].max_budget: -1.0 is outside"),
        ({"budgets": [{"name": "b", "max_budget": 1, "timezone": "Mars"}]}, "budgets[0].timezone: "),
        (
            {"token_limits": [{"name": "x", "limit": 1, "count": "cost"}]},
            "token_limits[0]: counts what mock/free costs",
        ),
        ({"budgets": [budget()]}, "budgets[0]: counts what mock/free costs"),
        (
            {"token_limits": [requests_limit(match={"models": ["gpt"]})]},
            "token_limits[0].match.models[0]: the tenant has no model 'gpt'",
        ),
        (
            {"token_limits": [requests_limit(match={"providers": ["nobody"]})]},
            "token_limits[0].match.providers[0]: 'nobody' is no provider",
        ),
        (
            {"token_limits": [requests_limit(), requests_limit()]},
            "token_limits[1].name: 'minute' is the name of",
        ),
        (
            {
                "budgets": [
                    budget(match={"models": ["fast"]}, steps=[{"at": "50%", "do": "notify", "to": "x"}])
                ]
            },
            "budgets[0].steps[0].to: gateway.alerts has no receiver 'x'",
        ),
        (
            {
                "budgets": [
                    budget(
                        match={"models": ["fast"]},
                        steps=[{"at": "9%", "do": "degrade", "with": {"model": "y"}}],
                    )
                ]
            },
            "budgets[0].steps[0].with.model: the tenant has no model 'y'",
        ),
        ({"enabled": "no"}, "enabled: must be true or false"),
    ],
)
def test_an_entry_that_cant_be_used_leaves_the_tenants_last_good_one(
    world: World, entry: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"id": "acme", "token_limits": [requests_limit(name="good")]}
    world.platform.put(good, {"id": "globex", "token_limits": [requests_limit(name="before")]})
    world.mirror.step()
    bad = {"id": "acme", **entry}
    other = {"id": "globex", "token_limits": [requests_limit(name="after")]}
    listing = Listing(
        "", world.mirror.copy.version + 1 if world.mirror.copy else 1, {"acme": bad, "globex": other}
    )
    monkeypatch.setattr(
        world.mirror._client, "tenants", lambda etag: listing
    )  # the reference server refuses it, too
    world.mirror.step()
    assert world.names() == ["good"]
    assert world.names("globex") == ["after"]
    (refused,) = world.laid().refused.items()
    assert refused[0] == "acme"
    assert refused[1].startswith(problem)
    if "enabled" not in entry:
        listing.entries["acme"]["enabled"] = False  # type: ignore[index]
        listing = Listing("", listing.version + 1, listing.entries)
        world.mirror.step()
        assert world.policy().blocked is Blocked.DISABLED
        assert world.names() == ["good"]


# -- what goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 500}, "platform: HTTP 500"),
        ({"status": 302, "headers": {"Location": "/v1/tenants"}}, "platform: HTTP 302"),
        ({"fault": "close"}, "platform: RemoteDisconnected"),
        ({"fault": "hang"}, "platform: TimeoutError"),
        ({"fault": "malformed"}, "platform: /v1/tenants: isn't JSON"),
        ({"fault": "short"}, "platform: IncompleteRead"),
        ({"fault": "large"}, "platform: an answer of over 1 MiB"),
    ],
)
def test_a_failing_platform_leaves_the_last_good_copy(
    world: World,
    fault: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(clients, "_PAGE_BYTES", 1 << 20)
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    world.platform.fail({"path": "/v1/tenants", **fault})
    if fault.get("fault") == "hang":
        monkeypatch.setattr(world.mirror._client, "_timeout_s", 0.2)
    with pytest.raises(PlatformError) as error:
        world.mirror.pull()
    assert str(error.value) == said
    with caplog.at_level(logging.DEBUG):
        world.mirror.step()
        assert world.names() == ["minute"]
        assert world.restarted().copy is not None
        world.mirror.step()
    assert world.names() == ["minute"]
    assert TOKEN not in repr([r.__dict__ for r in caplog.records])


def test_the_platform_says_how_long_it_wants_to_be_left_alone(world: World) -> None:
    world.platform.fail({"path": "/v1/tenants", "status": 503, "headers": {"Retry-After": "120"}})
    assert world.mirror.step() == 120


def test_a_wrong_token_is_said_and_never_shown(world: World) -> None:
    with pytest.raises(PlatformError, match=r"^platform: HTTP 401$"):
        world.restarted("another").pull()
    with pytest.raises(ConfigError, match=r"^gateway\.platform\.token: must be printable ASCII") as error:
        world.restarted("se cret")
    assert "se cret" not in str(error.value)


def test_a_list_that_went_back_is_taken_only_when_told(world: World) -> None:
    world.platform.put({"id": "acme", "token_limits": [requests_limit(name="new")]})
    world.mirror.step()
    version = world.mirror.copy.version if world.mirror.copy else 0
    world.platform.put({"id": "acme", "token_limits": [requests_limit(name="restored")]})
    world.platform.call("PUT", "/_mock/version", version - 1)
    with pytest.raises(PlatformError, match="--accept-older"):
        world.mirror.pull()
    world.mirror.step()
    assert world.names() == ["new"]
    world.mirror.pull(accept_older=True)
    world.mirror.step()
    assert world.names() == ["restored"]
    world.platform.call("PUT", "/_mock/version", 10_000)


def test_a_copy_of_another_platform_confirms_nothing(world: World) -> None:
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    path = Path(world.settings.path)
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "url": "https://other", "version": 1 << 40, "entries": {}}))
    world.restarted().step()
    assert world.names() == ["minute"]


def test_a_damaged_copy_changes_nothing_until_the_platform_answers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    Path(world.settings.path).write_text("{")
    world.platform.fail({"path": "/v1/", "status": 500})
    world.restarted().step()
    assert "the last good copy can't be read: what is in force stays so" in caplog.text
    assert world.names() == ["minute"]
    world.platform.fail()
    world.platform.put({"id": "acme"})
    world.mirror.step()
    assert world.names() == ["own"]


def test_a_disk_that_is_full_keeps_no_limit_from_coming_into_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise EdgeError("platform.json: No space left on device")

    monkeypatch.setattr(CopyFile, "_put", full)
    world.platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    assert world.names() == ["minute"]


# -- age -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_stale", "limit", "blocked"),
    [("keep", 100, None), ("tighten", 25, None), ("closed", 100, Blocked.STALE)],
)
def test_an_old_copy_does_what_the_file_says_until_the_platform_answers(
    platform: Platform, tmp_path: Path, on_stale: str, limit: int, blocked: Blocked | None
) -> None:
    platform.fail()
    world = World(platform, tmp_path, on_stale=on_stale, tighten_to=0.25, max_age_s=100)
    platform.put({"id": "acme", "token_limits": [requests_limit()]})
    world.mirror.step()
    world.now += 60
    world.mirror.step()  # confirmed, by 304
    platform.fail({"path": "/v1/", "status": 500})
    world.now += 100
    world.mirror.step()
    assert (world.policy().token_limits[0]["limit"], world.policy().blocked) == (100, None)
    world.now += 1
    world.restarted().step()
    assert (world.policy().token_limits[0]["limit"], world.policy().blocked) == (limit, blocked)
    assert world.policy("globex").blocked is None
    platform.fail()
    world.mirror.step()
    assert (world.policy().token_limits[0]["limit"], world.policy().blocked) == (100, None)
    world.store.close()


def test_a_clock_that_was_set_back_makes_no_copy_older(world: World) -> None:
    world.platform.put({"id": "acme"})
    world.mirror.step()
    world.now -= 500
    assert world.mirror.copy is not None
    assert world.mirror.copy.age_s(world.now) == 0


# -- client and server ---------------------------------------------------------------------------------------

tenant_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
entries = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "keys": st.lists(st.fixed_dictionaries({"name": st.text(min_size=1, max_size=5)}), max_size=2),
        "token_limits": st.none() | st.just([requests_limit()]),
        "budgets": st.none() | st.lists(st.builds(budget, max_budget=st.integers(0, 9)), max_size=1),
        "later": st.text(max_size=3),
    },
)


@settings(max_examples=15)
@given(
    lists=st.lists(st.dictionaries(tenant_ids, entries, max_size=12), min_size=1, max_size=3),
    page=st.integers(1, 5),
)
def test_client_and_server_agree_on_every_list(
    platform: Platform, lists: list[dict[str, Any]], page: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "_PAGE", page)
        client, etag = Client(platform.url, TOKEN, timeout_s=10), ""
        platform.fail()
        for listed in lists:
            wanted = {tenant: {**entry, "id": tenant} for tenant, entry in listed.items()}
            version = platform.put(*wanted.values())
            found = client.tenants(etag)
            assert isinstance(found, Listing)
            assert (dict(found.entries), found.version) == (wanted, version)
            etag = found.etag
            assert isinstance(client.tenants(etag), Unchanged)


def test_a_list_that_changes_while_it_is_read_is_read_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.fail()
    monkeypatch.setattr(clients, "_PAGE", 1)
    platform.put({"id": "a"}, {"id": "b"})
    client = Client(platform.url, TOKEN, timeout_s=10)
    ask, asked = client._get, 0

    def changing(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            platform.put({"id": "a"}, {"id": "c"})
        return ask(*args, **options)

    monkeypatch.setattr(client, "_get", changing)
    found = client.tenants()
    assert isinstance(found, Listing)
    assert set(found.entries) == {"a", "c"}
