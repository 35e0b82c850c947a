"""Prompt compression on a whole gateway: the provider reads less, the client notices nothing but the headers."""

from __future__ import annotations

import random

import pytest

from tenantgate.devhost.client import Reply

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e

SPEAKERS = ("Maria", "Tom", "Aisha")
PHRASES = (
    "um so I was thinking that we could maybe, you know, have another look at the remote control design",
    "yeah I mean it is basically the same thing that we were sort of discussing in the last meeting",
    "okay well the budget is about 12,500 euros and that is really not that much at the end of the day",
    "right, right, so it would be kind of nice if we had a rubber case instead of the plastic one",
)


def meeting(seed: int, turns: int = 60) -> str:
    pick = random.Random(seed)
    lines = [
        f"{pick.choice(SPEAKERS)}: {pick.choice(PHRASES)}, I would say, number {n}." for n in range(turns)
    ]
    return (
        "Summarise the decisions of this meeting.\n\n"
        + "\n".join(lines)
        + "\n\nWhat was decided about the case?"
    )


def tokens(reply: Reply) -> tuple[int, int]:
    return tuple(int(reply.headers[f"x-compression-tokens-{when}"]) for when in ("before", "after"))  # type: ignore[return-value]


def read_by_provider(reply: Reply) -> int:
    """The mock counts the words of what it was asked."""
    return int(reply.json["usage"]["prompt_tokens"])


@pytest.fixture(autouse=True)
def _ready(gateway: Gateway) -> None:
    """Until the vocabulary is loaded."""
    client = gateway.client("compressing")
    numbers = iter(range(10_000, 20_000))
    until(
        lambda: client.chat(meeting(next(numbers))).headers.get("x-compression-tokens-after"),
        lambda v: v is not None,
        what="compressed",
    )


def test_the_provider_reads_less_and_the_client_gets_its_answer(gateway: Gateway) -> None:
    prompt = meeting(1)
    reply = gateway.client("compressing").chat(prompt)
    assert reply.status == 200
    before, after = tokens(reply)
    assert after < 0.85 * before
    assert read_by_provider(reply) < 0.9 * len(prompt.split())


def test_a_compressed_request_fills_the_cache_and_its_repeat_hits(gateway: Gateway) -> None:
    client, prompt = gateway.client("compressing"), meeting(2)
    first = client.chat(prompt)
    assert (first.status, first.cache) == (200, "Miss")
    again = until(lambda: client.chat(prompt), lambda r: r.cache == "Hit", what="cache status")
    assert again.text == first.text
    assert client.chat(meeting(3)).cache == "Miss"


def test_a_stream_is_compressed_too(gateway: Gateway) -> None:
    reply = gateway.client("compressing").chat(meeting(4), stream=True)
    before, after = tokens(reply)
    assert after < before
    assert "This is mock answer" in reply.text


def test_a_short_prompt_and_a_huge_one_are_left_alone(gateway: Gateway) -> None:
    client = gateway.client("compressing")
    short = client.chat(gateway.fresh())
    assert short.status == 200
    assert short.headers.get("x-compression-tokens-before") == short.headers.get("x-compression-tokens-after")
    prompt = "x" * 1_200_000 + " " + meeting(5)
    huge = client.chat(prompt)
    assert huge.status == 200
    assert read_by_provider(huge) == len(prompt.split())
