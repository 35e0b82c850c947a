from __future__ import annotations

from typing import Any

import pytest
import yaml

from tenantgate.devhost.declarative import load_text
from tenantgate.devhost.router import Match, Router


def router(*routes: dict[str, Any], url: str = "http://up/base") -> Router:
    named = [{"name": f"r{i}", **r} for i, r in enumerate(routes)]
    tree = {"_format_version": "3.0", "services": [{"name": "s", "url": url, "routes": named}]}
    return Router(load_text(yaml.safe_dump(tree), external={}, environ={}).routes)


def match(made: Router, path: str, *, method: str = "POST", host: str = "h", **headers: str) -> Match | None:
    return made.match(method=method, host=host, path=path, headers=headers)


def name(found: Match | None) -> str | None:
    return found.route.name if found else None


def test_the_longest_path_wins() -> None:
    made = router({"paths": ["/a"]}, {"paths": ["/a/b"]})
    assert name(match(made, "/a/b/c")) == "r1"
    assert name(match(made, "/a/x")) == "r0"
    assert match(made, "/b") is None


def test_a_regex_comes_before_a_plain_path() -> None:
    made = router({"paths": ["/a/very/long/path"]}, {"paths": ["~/a/(?<who>[a-z]+)".replace("?<", "?P<")]})
    found = match(made, "/a/very/long/path")
    assert (name(found), found and found.captures) == ("r1", {"who": "very"})


def test_more_conditions_come_first() -> None:
    made = router({"paths": ["/a/b/c"]}, {"paths": ["/a"], "methods": ["POST"]})
    assert name(match(made, "/a/b/c")) == "r1"
    assert name(match(made, "/a/b/c", method="GET")) == "r0"


@pytest.mark.parametrize(
    ("pattern", "host", "found"),
    [
        ("x.org", "x.org", True),
        ("*.x.org", "a.x.org", True),
        ("x.*", "x.com", True),
        ("x.org", "y.org", False),
    ],
)
def test_hosts_may_have_a_wildcard(pattern: str, host: str, found: bool) -> None:
    assert (match(router({"hosts": [pattern]}), "/", host=host) is not None) is found


def test_headers_are_compared() -> None:
    made = router({"paths": ["/"], "headers": {"x-v": ["1", "2"]}})
    assert match(made, "/", **{"x-v": "2"})
    assert not match(made, "/", **{"x-v": "3"})


@pytest.mark.parametrize(
    ("strip", "path", "upstream"),
    [
        (True, "/a/b", "/base/b"),
        (True, "/a", "/base"),
        (False, "/a/b", "/base/a/b"),
        (True, "/ab", "/base/b"),
    ],
)
def test_the_upstreams_path(strip: bool, path: str, upstream: str) -> None:
    found = match(router({"paths": ["/a"], "strip_path": strip}), path)
    assert found
    assert found.upstream_path(path) == upstream
