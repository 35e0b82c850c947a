"""The families of costly requests are of the size that is asked for."""

from __future__ import annotations

import json

import pytest

from tenantgate.bench.hostile import BODIES, TEXTS, bodies


@pytest.mark.parametrize("name", TEXTS)
def test_text_has_the_size(name: str) -> None:
    assert len(TEXTS[name](10_000)) == 10_000


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [1_000, 20_000])
def test_body_is_about_the_size(name: str, size: int) -> None:
    body = BODIES[name](size)
    assert size / 2 <= len(body) <= 2 * size + 5_000
    if not name.startswith("deep"):
        assert json.loads(body)["messages"]


def test_all_families_are_bodies() -> None:
    made = dict(bodies(5_000))
    assert len(made) == len(TEXTS) + len(BODIES)
    for name, body in made.items():
        assert 2_000 <= len(body) <= 15_000, name
