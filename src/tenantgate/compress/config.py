"""What an operator may set on compression; names as in Kong's ai-prompt-compressor where it has them.

Source: https://developer.konghq.com/plugins/ai-prompt-compressor/reference/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import config_class, field

__all__ = ["DEFAULT_RANGES", "CompressConfig", "CompressionRange"]

_MOST_TOKENS: Final = 10_000_000


@config_class
class CompressionRange:
    """How far texts of one range of lengths are pruned."""

    min_tokens: int = field(
        "Shortest text of the range, inclusive.", between=(0, _MOST_TOKENS), unit="tokens"
    )
    max_tokens: int = field("Upper end of the range, exclusive.", between=(1, _MOST_TOKENS), unit="tokens")
    value: float = field(
        "With rate, the share of words that stay, from 0 to 1. With target_token, the tokens that stay.",
        between=(0, _MOST_TOKENS),
    )


DEFAULT_RANGES: Final = (CompressionRange(min_tokens=200, max_tokens=_MOST_TOKENS, value=0.8),)
"""What counts if none is given; texts below the shortest range aren't pruned."""


@config_class
class CompressConfig:
    """Settings of one route's compression."""

    compressor_type: str = field(
        "Meaning of a range's value: rate, the share of words that stay; target_token, a number of tokens.",
        default="rate",
        one_of=("rate", "target_token"),
    )
    compression_ranges: tuple[CompressionRange, ...] = field(
        "Pruning by length of the text. Default: texts from 200 tokens keep about 0.8 of their words. Texts in no "
        "range are folded, not pruned.",
        default=(),
        len_max=20,
    )
    message_type: tuple[str, ...] = field(
        "Roles whose messages are compressed: user, assistant, system (developer messages, too) or tool (results "
        "of tools). Default: user.",
        default=("user",),
        one_of=("user", "assistant", "system", "tool"),
        len_min=1,
    )
    strict_requests: bool = field(
        "Refuse requests that aren't a chat request in strict JSON. Otherwise they pass unread.", default=True
    )
    min_tokens: int = field(
        "Shortest text that is compressed. Shorter texts stay unchanged.",
        default=100,
        between=(0, _MOST_TOKENS),
        unit="tokens",
    )
    whitespace: bool = field(
        "Step: shorten blanks at line ends and empty lines between paragraphs of prose.", default=True
    )
    structure: bool = field(
        "Step: remove padding from JSON over five lines or more and from Markdown tables, outside code.",
        default=True,
    )
    repeats: bool = field(
        "Step, for tasks about the content: keep a repeated passage or line once, with a note where it was "
        "repeated.",
        default=True,
    )
    boilerplate: bool = field(
        "Step, for tasks about the content: shorten rulers of logs and mail, and marks of nested quotes.",
        default=True,
    )
    prune: bool = field(
        "Step, for tasks about the content: remove words of little meaning from transcripts of spoken English.",
        default=True,
    )
    pruner: str = field(
        "Method that chooses the words to remove: rules, made for English; model, rules and then the small model "
        "that `tenantgate models build` builds; llmlingua, the model in pruner_model.",
        default="rules",
        one_of=("rules", "model", "llmlingua"),
    )
    pruner_model: str | None = field(
        "LLMLingua-2 model, for llmlingua: a directory on the gateway, or a name that transformers downloads. A "
        "directory may hold the model as ONNX; otherwise the extra llmlingua is needed.",
        default=None,
        len_min=1,
        len_max=500,
    )
    encoding: str = field(
        "Vocabulary for counting tokens: o200k_base for OpenAI's models since GPT-4o, cl100k_base for earlier "
        "ones, qwen3. Counts of other model families differ by some percent.",
        default="o200k_base",
        one_of=("o200k_base", "cl100k_base", "qwen3"),
    )
    input_cost: float | None = field(
        "Price of a million prompt tokens, in any currency, to report the money saved.",
        default=None,
        between=(0, 1_000_000),
    )
    stop_on_error: bool = field(
        "Answer 503 when compression fails. Otherwise the request passes unchanged, as it does when deadline_ms "
        "is exceeded.",
        default=False,
    )
    log_text_data: bool = field(
        "Must be false: no text of a prompt is logged. Accepted for configurations written for "
        "ai-prompt-compressor.",
        default=False,
    )
    deadline_ms: int = field(
        "Most time for compression in one request. A request that isn't ready by then passes unchanged.",
        default=300,
        between=(1, 1400),
        unit="ms",
    )

    @property
    def ranges(self) -> tuple[CompressionRange, ...]:
        """The ranges, or the usual one."""
        return self.compression_ranges or DEFAULT_RANGES

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems between the fields."""
        if self.log_text_data:
            yield "log_text_data", "must be false; no text of a prompt is logged"
        if self.pruner == "llmlingua" and self.pruner_model is None:
            yield "pruner_model", "required for pruner llmlingua"
        for i, r in enumerate(self.ranges):
            where = f"compression_ranges[{i}]"
            if r.max_tokens <= r.min_tokens:
                yield f"{where}.max_tokens", f"{r.max_tokens} is not above min_tokens"
            if self.compressor_type == "rate" and not 0 < r.value <= 1:
                yield f"{where}.value", f"{r.value} is no share; rate takes more than 0 and at most 1"
            if self.compressor_type == "target_token" and r.value < 1:
                yield f"{where}.value", f"{r.value} is no number of tokens"
        if not self.compression_ranges and self.compressor_type == "target_token":
            yield "compression_ranges", "required for target_token"
