from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tenantgate import cli
from tenantgate.cache import calibrating
from tenantgate.cache.admin import Admin
from tenantgate.cache.core import entry as entries
from tenantgate.cache.core.calibration import Calibration, Point
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.core.testing import HashingEmbedder
from tenantgate.cache.redis_store import RedisCache
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import ConfigError
from tenantgate.llm.chat import ChatReply
from tenantgate.store.config import ClusterNode, RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

KEY = "a key of thirty-two characters!!"
QUESTION, ANSWER = "what is a sextant", "an instrument \x1b[2J"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("redis"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    found = redis.Redis(port=server.port)
    found.flushall()
    yield found
    found.close()


def fill(server: RedisServer, tenant: str, buckets: str, ttl_s: int = 300) -> list[str]:
    """Stores one entry for each letter, in the bucket of that, as the plugin does; their names."""
    who = TenantId(tenant)
    keys, sealer = Keys(who), TenantSealer(KEY, who)
    store = RedisCache(connect(RedisConfig(port=server.port), timeout_ms=2000))
    names = []
    for i, letter in enumerate(buckets):
        name = sealer.name(str(i).encode())
        plain = entries.encode(entries.Entry(QUESTION, ChatReply(ANSWER, "stop", "m"), time.time(), ttl_s))
        stored = store.store(
            keys,
            name,
            sealer.seal(plain, key=keys.entry(name).encode()),
            ttl_s=ttl_s + i,
            max_entries=100,
            max_bytes=1 << 20,
            bucket=keys.bucket(letter * 32),
        )
        assert stored
        names.append(name)
    return names


def run(*args: str) -> int:
    return cli.main(["cache", *args])


def test_stats_count_one_tenants_entries(
    server: RedisServer, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(server, "acme", "aa")
    fill(server, "globex", "a")
    assert run("stats", "--tenant", "acme", "--redis-url", server.url, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["entries"], found["buckets"]) == (2, 1)
    assert 0 < found["next_expiry_s"] <= found["last_expiry_s"] <= 301
    assert found["bytes"] > 500
    assert run("stats", "--tenant", "acme", "--redis-url", server.url) == 0
    assert "1 of questions" in capsys.readouterr().out


def test_stats_of_a_tenant_with_nothing(
    server: RedisServer,
    client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TENANTGATE_REDIS_URL", server.url)
    assert run("stats", "--tenant", "a:b {x} *\x1b") == 0
    out = capsys.readouterr().out
    assert "entries      0 " in out
    assert "\x1b" not in out


@pytest.mark.parametrize("tenant", ["acme", "a*", "{acme}", "acm?"])
def test_purge_removes_one_tenants_keys_and_no_others(
    server: RedisServer, client: redis.Redis, capsys: pytest.CaptureFixture[str], tenant: str
) -> None:
    others = ["acme2", "acm", "a", "*"]
    for name in (tenant, *others):
        fill(server, name, "aa")
    client.set("tg:cache:2:acme", "not a tenant's")
    before = set(client.keys("*"))
    assert run("purge", "--tenant", tenant, "--redis-url", server.url, "--yes") == 0
    gone = before - set(client.keys("*"))
    base = Keys(TenantId(tenant)).base.encode()
    assert len(gone) == 5
    assert all(key.startswith(base) for key in gone)
    assert "removed 5 keys: 2 entries, 1 buckets, 2 books" in capsys.readouterr().out


def test_purge_takes_more_than_a_page(server: RedisServer, client: redis.Redis) -> None:
    keys = Keys(TenantId("acme"))
    client.mset({keys.entry(f"{i:032x}"): "x" for i in range(1203)})
    admin = Admin(redis_config(server.url), TenantId("acme"))
    assert admin.purge() == {"entries": 1203}
    admin.close()
    assert client.dbsize() == 0


def test_purge_asks_or_refuses(
    server: RedisServer,
    client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(server, "acme", "a")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert run("purge", "--tenant", "acme", "--redis-url", server.url) == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _prompt: "")
    assert run("purge", "--tenant", "acme", "--redis-url", server.url) == 1
    assert client.dbsize() == 4
    monkeypatch.setattr("builtins.input", lambda _prompt: "y")
    assert run("purge", "--tenant", "acme", "--redis-url", server.url) == 0
    assert client.dbsize() == 0


def test_inspect_shows_neighbours_and_no_text(
    server: RedisServer, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    near, also_near, far = fill(server, "acme", "aab")
    assert run("inspect", "--tenant", "acme", "--redis-url", server.url) == 0
    out = capsys.readouterr().out
    assert "sextant" not in out
    assert "instrument" not in out
    assert run("inspect", "--tenant", "acme", "--redis-url", server.url, "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: rows[name]["neighbours"] for name in (near, also_near, far)} == {
        near: 1,
        also_near: 1,
        far: 0,
    }
    assert "question" not in rows[near]
    assert 0 < rows[near]["ttl_s"] <= 300
    assert rows[near]["bucket"] == "a" * 32


def test_inspect_shows_texts_to_who_has_the_key(
    server: RedisServer,
    client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(server, "acme", "a")
    args = ("inspect", "--tenant", "acme", "--redis-url", server.url, "--show-text")
    assert run(*args) == 2
    monkeypatch.setenv("OPERATORS_KEY", KEY)
    capsys.readouterr()
    assert run(*args, "--key-env", "OPERATORS_KEY") == 0
    out = capsys.readouterr().out
    assert QUESTION in out
    assert "an instrument \\x1b[2J" in out  # a reply must not drive the operator's terminal
    monkeypatch.setenv("OPERATORS_KEY", KEY + "!")
    assert run(*args, "--key-env", "OPERATORS_KEY") == 0
    assert "can't be opened" in capsys.readouterr().out


def test_a_foreign_type_under_our_key_is_an_error_of_ours(server: RedisServer, client: redis.Redis) -> None:
    client.set(Keys(TenantId("acme")).index, "text")
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        Admin(redis_config(server.url), TenantId("acme")).stats()


def test_no_error_tells_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    for url in (
        "redis://:hush@127.0.0.1:1/0",
        "redis://:hush@h:port/0",
        "http://:hush@h",
        "redis://:hush@h/x",
        "redis://:hush@h/0?a=b",
        "redis://:hush@[h/0",
    ):
        assert run("stats", "--tenant", "acme", "--redis-url", url) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 6
    assert "hush" not in err


def test_a_url_in_full() -> None:
    assert redis_config("rediss://us%40er:p%3Aw@cache.example:7000/3") == RedisConfig(
        host="cache.example", port=7000, database=3, username="us@er", password="p:w", ssl=True
    )
    assert redis_config("redis://h") == RedisConfig(host="h")


def test_the_url_of_a_cluster() -> None:
    nodes = (ClusterNode(ip="a", port=7), ClusterNode(ip="::1"))
    assert redis_config("rediss+cluster://us:p@a:7,[::1]/") == RedisConfig(
        cluster_nodes=nodes, username="us", password="p", ssl=True
    )
    assert redis_config("redis+cluster://h").cluster_nodes == (ClusterNode(ip="h"),)
    for url, what in (
        ("redis://a,b", "several hosts"),
        ("redis+cluster://a/1", "database"),
        ("redis+cluster://a,", "can't be read"),
        ("redis+sentinel://a", "must be"),
    ):
        with pytest.raises(ConfigError, match=what):
            redis_config(url)


# -- calibrate ------------------------------------------------------------------------------------------------


class Verifier:
    fingerprint = "v" * 16

    def score(self, a: str, b: str, similarity: float, states: object = None) -> float:
        return 0.9 if a.rsplit(maxsplit=1)[-1] == b.rsplit(maxsplit=1)[-1] else 0.1

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > 100


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"a": "x", "b": "y"}',
        '{"a": 1, "b": "y", "same": 1}',
        '{"a": " ", "b": "y", "same": 1}',
        '{"a": "secret", "b": "y", "same": 2}',
        '{"a": "\\ud800", "b": "y", "same": 1}',
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "x", "b": "y", "same": 1}\n\n' + line + "\n", "utf-8")
    with pytest.raises(ConfigError, match=r"pairs\.jsonl:3: ") as caught:
        calibrating.read_pairs(path)
    assert "secret" not in str(caught.value)


def test_pairs_without_one_that_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "x", "b": "y", "same": false}\n', "utf-8")
    with pytest.raises(ConfigError, match="no pair that is the same"):
        calibrating.read_pairs(path)


def test_what_a_rule_or_the_length_excludes_scores_below_0() -> None:
    pairs = [
        calibrating.Pair("who won in 2023", "who won in 2024", same=False),
        calibrating.Pair("x " * 60, "x", same=True),
        calibrating.Pair("what is a sextant", "tell me about a sextant", same=True),
    ]
    assert calibrating.score_pairs(pairs, HashingEmbedder(), Verifier()) == [-1.0, -1.0, 0.9]


def test_the_report_stands_alone_and_escapes() -> None:
    table = Calibration(
        "v", "e", "<script>", (Point(0.1, 1000, 300, 800), Point(0.8, 600, 5, 800), Point(0.99, 0, 0, 800))
    )
    page = calibrating.report(table)
    assert "<script" not in page
    assert "http" not in page
    assert page.count('class="mark"') == len(calibrating.BOUNDS) - 1  # 0.01 is out of reach
    assert "no score keeps it" in page


def test_calibrate_writes_a_table_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Files:
        def embedder(self) -> HashingEmbedder:
            return HashingEmbedder()

    asked: list[str] = []

    def load_verifier(name: str, _files: Files) -> Verifier:
        asked.append(name)
        return Verifier()

    monkeypatch.setattr("tenantgate.cache.commands.find_models", Files)
    monkeypatch.setattr("tenantgate.cache.commands.load_verifier", load_verifier)
    pairs, out, report = (tmp_path / name for name in ("pairs.jsonl", "table.json", "report.html"))
    rows = [
        {"a": "about ships", "b": "on ships", "same": 1},
        {"a": "about ships", "b": "on ships please", "same": 0},
    ]
    pairs.write_text("\n".join(json.dumps(row) for row in rows * 300), "utf-8")
    assert (
        run("calibrate", str(pairs), "--verifier", "large", "--out", str(out), "--report", str(report)) == 0
    )
    assert asked == ["large"]
    table = Calibration.from_json(out.read_text("utf-8"))
    assert table.threshold_for(0.01) == pytest.approx(0.105)
    assert table.verifier == Verifier.fingerprint
    assert "<svg" in report.read_text("utf-8")
    said = capsys.readouterr()
    assert "600 pairs, 300 the same; 0 excluded" in said.out
    assert "500 of 600 pairs" in said.err
    assert "ships" not in said.out + said.err
