"""Usage of tokens by kind, from what a provider counts in its own words.

The last usage of a reply holds, never a sum: providers send growing counts in a stream, or the same ones again. Kinds
are OpenTelemetry's: tokens read from or written to a prompt cache are part of the input, tokens of reasoning part of
the output (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). The counts are kept by
``plugins/kong/plugins/tenantgate-target/drivers.lua``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.llm.usage import Tokens, token_count

__all__ = ["TokenUsage", "token_usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of one reply. The kinds after the first two are parts of these; 0 also where nobody counts them."""

    input: int = 0
    """Of the prompt, those of a prompt cache and of audio included."""
    output: int = 0
    """Of the reply, those of reasoning and of audio included."""
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    """Of `cache_write`, those that are kept for an hour, which cost more."""
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    estimated: bool = False
    """Whether nobody has counted: Kong takes four characters for a token."""
    lower_bound: bool = False
    """Whether the stream broke off before its end, so that the provider may bill more."""

    @property
    def tokens(self) -> Tokens:
        """Of the prompt, of the completion, and of both."""
        return self.input, self.output, self.input + self.output


def token_usage(note: Any, counted: Tokens | None = None) -> TokenUsage | None:
    """The usage in a note of tenantgate-target.

    Args:
        note: ``{format, stream, complete, chunks, counts}``, in which any member may be missing or of another type.
        counted: as Kong counted or estimated; holds where the provider has told nothing.

    Returns:
        None where there is no note, or nobody told a count.
    """
    if not isinstance(note, Mapping):
        return None
    cut = note.get("stream") is True and note.get("complete") is not True
    counts, read = note.get("counts"), _FORMATS.get(str(note.get("format")))
    if isinstance(counts, Mapping) and counts and read is not None:
        return read(_Counts(counts), cut)
    if counted is None:
        # Of a stream that broke off Kong logs nothing. A chunk is a token at least.
        chunks = token_count(note.get("chunks"))
        return TokenUsage(output=chunks, estimated=True, lower_bound=True) if cut and chunks else None
    prompt, completion, _ = counted
    return TokenUsage(input=prompt, output=completion, estimated=True, lower_bound=cut)


class _Counts:
    """Counts by name, one level deep; 0 for what isn't one."""

    def __init__(self, values: Any) -> None:
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def __getitem__(self, name: str) -> int:
        return token_count(self._values.get(name)) or 0

    def within(self, name: str) -> _Counts:
        return _Counts(self._values.get(name))

    def total(self) -> int:
        return sum(self[name] for name in self._values)


def _openai(counts: _Counts, cut: bool) -> TokenUsage:
    # https://platform.openai.com/docs/api-reference/chat/object; DeepSeek's prompt_cache_hit_tokens
    # (https://api-docs.deepseek.com/guides/kv_cache).
    prompt, completion = (counts.within("prompt_tokens_details"), counts.within("completion_tokens_details"))
    return TokenUsage(
        input=counts["prompt_tokens"],
        output=counts["completion_tokens"],
        cache_read=prompt["cached_tokens"] or counts["prompt_cache_hit_tokens"],
        cache_write=prompt["cache_write_tokens"],
        reasoning=completion["reasoning_tokens"],
        audio_input=prompt["audio_tokens"],
        audio_output=completion["audio_tokens"],
        lower_bound=cut,
    )


def _gemini(counts: _Counts, cut: bool) -> TokenUsage:
    # In OpenAI's format; but completion_tokens are those of the candidates, while total_tokens hold thoughts, too
    # (usageMetadata: candidatesTokenCount, thoughtsTokenCount, totalTokenCount;
    # https://ai.google.dev/api/generate-content#UsageMetadata).
    plain = _openai(counts, cut)
    thoughts = max(0, counts["total_tokens"] - plain.input - plain.output)
    return TokenUsage(
        input=plain.input,
        output=plain.output + thoughts,
        cache_read=plain.cache_read,
        reasoning=max(thoughts, plain.reasoning),
        audio_input=plain.audio_input,
        lower_bound=cut,
    )


def _anthropic(counts: _Counts, cut: bool) -> TokenUsage:
    # input_tokens are those after the last cache breakpoint
    # (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching).
    by_time = counts.within("cache_creation")
    written = counts["cache_creation_input_tokens"] or by_time.total()
    return TokenUsage(
        input=counts["input_tokens"] + counts["cache_read_input_tokens"] + written,
        output=counts["output_tokens"],
        cache_read=counts["cache_read_input_tokens"],
        cache_write=written,
        cache_write_1h=min(written, by_time["ephemeral_1h_input_tokens"]),
        lower_bound=cut,
    )


def _bedrock(counts: _Counts, cut: bool) -> TokenUsage:
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    read, written = counts["cacheReadInputTokens"], counts["cacheWriteInputTokens"]
    return TokenUsage(
        input=counts["inputTokens"] + read + written,
        output=counts["outputTokens"],
        cache_read=read,
        cache_write=written,
        lower_bound=cut,
    )


_FORMATS: Final[Mapping[str, Callable[[_Counts, bool], TokenUsage]]] = {
    "anthropic": _anthropic,
    "bedrock": _bedrock,
    "gemini": _gemini,
    "openai": _openai,
}
