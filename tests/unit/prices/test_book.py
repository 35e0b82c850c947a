"""The book of genai-prices gives the prices that genai-prices itself calculates with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from genai_prices import Usage
from genai_prices.types import ModelInfo, Provider
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.prices import book
from tenantgate.prices.core.cost import cost, prices_at
from tenantgate.prices.core.price_list import PriceList

PRICED: Final = [(p, m, found) for p, m, found in book.entries() if isinstance(found, PriceList)]
SECONDS: Final = st.integers(1_672_531_200, 1_830_297_600)  # 2023 to 2027
COUNT: Final = st.integers(0, 2_000_000)


def calculated(provider: Provider, model: ModelInfo, usage: TokenUsage, at: datetime) -> Decimal:
    told = {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "cache_write_1h_tokens": usage.cache_write_1h,
        "output_reasoning_tokens": usage.reasoning,
        "input_audio_tokens": usage.audio_input,
        "output_audio_tokens": usage.audio_output,
    }
    counts: dict[str, Any] = {name: count for name, count in told.items() if count}
    found = model.calc_price(Usage(**counts), provider, genai_request_timestamp=at)
    return found.total_price


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Usages whose parts are no more than the whole. Audio isn't mixed with cache: nobody tells the overlap."""
    plain, read, written, hour, audio = (draw(COUNT) for _ in range(5))
    reply, thought, spoken = (draw(COUNT) for _ in range(3))
    if draw(st.booleans()):
        read = written = hour = 0
    else:
        audio = 0
    if draw(st.booleans()):
        thought = 0
    else:
        spoken = 0
    return TokenUsage(
        input=plain + read + written + hour + audio,
        output=reply + thought + spoken,
        cache_read=read,
        cache_write=written + hour,
        cache_write_1h=hour,
        audio_input=audio,
        audio_output=spoken,
        reasoning=thought,
    )


@settings(max_examples=4)
@given(usages(), SECONDS)
def test_every_model_costs_what_genai_prices_says(usage: TokenUsage, second: int) -> None:
    at_ms, at = second * 1000, datetime.fromtimestamp(second, UTC)
    tokens = usage.input + usage.output
    for provider, model, prices in PRICED:
        asked = usage
        rates = model.get_prices(at)
        if rates.output_mtok is None:  # vectors; a reply of them isn't free with us
            asked = TokenUsage(input=usage.input, cache_read=usage.cache_read, cache_write=usage.cache_write)
        expected = calculated(provider, model, asked, at) * 10**15
        found = cost(prices, asked, at_ms).femto
        # A price that is finer than a nano-dollar, a quotient in the book, is rounded up.
        assert expected <= found <= expected + tokens, (provider.id, model.id, prices_at(prices, at_ms))
        if found != expected:
            assert any(len(str(price).partition(".")[2]) > 9 for price in _prices(rates)), model.id


def _prices(rates: Any) -> Iterator[Decimal]:
    for value in vars(rates).values():
        yield getattr(value, "base", value)
        yield from (tier.price for tier in getattr(value, "tiers", ()))


@pytest.mark.parametrize(
    ("provider", "model", "address", "expected"),
    [
        ("openai", "gpt-4o-mini", None, "openai/gpt-4o-mini"),
        ("openai", "gpt-4o-mini-2024-07-18", None, "openai/gpt-4o-mini"),
        ("azure", "gpt-4o", None, "azure/gpt-4o"),
        ("azure", "gpt-5-mini", None, "azure/gpt-5-mini"),
        ("anthropic", "claude-sonnet-4-5", None, "anthropic/claude-sonnet-4-5"),
        ("bedrock", "amazon.nova-lite-v1:0", None, "aws/amazon.nova-lite-v1:0"),
        ("bedrock", "eu.amazon.nova-lite-v1:0", None, "aws/amazon.nova-lite-v1:0"),
        ("gemini", "gemini-2.5-flash", None, "google/gemini-2.5-flash"),
        ("vertex", "google/gemini-2.5-pro", None, "google/gemini-2.5-pro"),
        ("groq", "llama-3.1-8b-instant", None, "groq/llama-3.1-8b-instant"),
        ("cohere", "command-r-plus", None, "cohere/command-r-plus"),
        ("mistral", "mistral-small-latest", None, "mistral/mistral-small-latest"),
        (
            "huggingface",
            "deepseek-ai/DeepSeek-R1:together",
            None,
            "huggingface_together/deepseek-ai/DeepSeek-R1",
        ),
        (
            "openai-compatible",
            "deepseek-chat",
            "https://api.deepseek.com/v1/chat/completions",
            "deepseek/deepseek-chat",
        ),
    ],
)
def test_providers_and_models_are_found_by_their_names(
    provider: str, model: str, address: str | None, expected: str
) -> None:
    found = book.find(provider, model, address)
    assert f"{found.provider}/{found.model}" == expected
    assert found.prices.book == book.version()


@pytest.mark.parametrize(
    ("provider", "model", "address", "reason"),
    [
        ("openai", "my-own-model", None, "doesn't have it"),
        ("openai", "gpt-image-1", None, "higher price of input image"),
        ("openai", "whisper-1", None, "no price of its tokens"),
        ("gemini", "gemini-2.5-flash-image", None, "higher price of output image"),
        ("huggingface", "deepseek-ai/DeepSeek-R1", None, "no prices of huggingface"),
        ("huggingface", "a/b:nobody", None, "doesn't have it"),
        ("openai-compatible", "gpt-4o", "https://llm.example/v1/chat/completions", "doesn't have it"),
        ("openai-compatible", "gpt-4o", None, "no prices of openai-compatible"),
        ("vllm", "gpt-4o", "https://api.openai.com/v1/chat/completions", "no prices of vllm"),
        ("ollama", "gpt-4o", None, "no prices of ollama"),
        ("mock", "gpt-4o", None, "no prices of mock"),
    ],
)
def test_what_the_book_can_t_price_it_doesn_t(
    provider: str, model: str, address: str | None, reason: str
) -> None:
    with pytest.raises(book.Unpriced, match=reason):
        book.find(provider, model, address)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "vllm"])
def test_nothing_of_a_provider_is_dearer_than_the_dearest(provider: str) -> None:
    top = book.dearest(provider).prices
    for of, _, found in PRICED:
        if of.id != (provider if provider != "vllm" else "google"):
            continue
        for period in found.periods:
            for prices in (period.prices, *(tier.prices for tier in period.tiers)):
                for kind, price in prices.items():
                    side = "output" if kind in ("output", "reasoning", "audio_output") else "input"
                    assert price <= top.get(kind, top[side] if kind != "request" else price)


def test_the_book_is_loaded_when_a_price_is_asked_for() -> None:
    code = (
        "import sys; from tenantgate.limits.core import reading; from tenantgate.audit.core import costs\n"
        "from tenantgate.prices import pricing, config\n"
        "try: pricing.PriceBook(config.Pricing()).find(pricing.Asked('mock', 'm'))\n"
        "except pricing.Unpriced: pass\n"
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
