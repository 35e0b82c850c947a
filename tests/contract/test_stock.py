"""The same plugin file under kong-pdk's own server: same calls, same answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tenantgate.kong.testing import KongClient

if TYPE_CHECKING:
    from .conftest import Launched

PLUGIN = Path(__file__).parent / "plugins" / "well-behaved.py"
PDK: dict[str, Any] = {
    "kong.client.get_consumer": {"id": "1", "custom_id": "acme"},
    "kong.request.get_raw_body": b'{"model": "x"}',
    "kong.request.get_headers": {"x-in": "\u20ac", "x-many": ["a", "b"]},
    "kong.log.serialize": '{"status": 200}',
}
CASES = [
    (mode, on_error, phase)
    for mode in ("tag", "exit", "exit-first", "raise-first", "raise-later")
    for on_error in ("pass", "reject")
    for phase in ("access", "log")
]


@pytest.fixture(scope="module", params=["threads", "gevent", "lua-style"])
def stock(request: pytest.FixtureRequest) -> Iterator[Path]:
    style = {"threads": ["--no-lua-style"], "gevent": ["--no-lua-style", "-g"], "lua-style": []}[
        request.param
    ]
    with tempfile.TemporaryDirectory(prefix="tg-") as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        shutil.copy(PLUGIN, folder / "plugins")
        command = [
            Path(sys.executable).with_name("kong-python-pluginserver"),
            "-d",
            folder / "plugins",
            "-p",
            folder,
            "--socket-name",
            "s",
            *style,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield folder / "s"
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def ours(launched: Callable[..., Launched]) -> Launched:
    server = launched("well-behaved")
    server.ready()
    return server


def results(path: Path) -> dict[tuple[str, str, str], list[Any]]:
    with KongClient(path) as kong:
        out = {}
        for mode, on_error, phase in CASES:
            instance = kong.start_instance(
                "well-behaved", {"mode": mode, "on_error": on_error, "route_id": "r"}
            )
            out[mode, on_error, phase] = kong.handle_event(instance, phase, PDK)
        return out


def test_both_servers_give_the_same(stock: Path, ours: Launched) -> None:
    ours.eventually(stock.exists)
    ours.eventually(lambda: KongClient(stock).connect().close() is None)
    expected = results(ours.socket)
    # An exit as the very first call leaks under kong-pdk; there the wrapper makes another call before.
    for key, calls in expected.items():
        if calls and calls[0][0] == "kong.response.exit":
            expected[key] = [("kong.ctx.shared.get", "tenantgate"), *calls]
    assert results(stock) == expected


def test_bad_configuration_follows_on_error(ours: Launched) -> None:
    with ours.client() as kong:
        for on_error, calls in (("pass", []), ("reject", [("kong.response.exit", 503)])):
            instance = kong.start_instance("well-behaved", {"on_error": on_error, "deadline_ms": -1})
            assert [c[:2] for c in kong.handle_event(instance, "access", PDK)] == calls
    assert "well-behaved.deadline_ms" in ours.logged() or "config.deadline_ms" in ours.logged()
