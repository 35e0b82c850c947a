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
        "Shortest text that the range is for, itself included.", between=(0, _MOST_TOKENS), unit="tokens"
    )
    max_tokens: int = field(
        "Length from which the range no longer counts.", between=(1, _MOST_TOKENS), unit="tokens"
    )
    value: float = field(
        "For rate the share of words that stay, from 0 to 1; for target_token the tokens that stay.",
        between=(0, _MOST_TOKENS),
    )


DEFAULT_RANGES: Final = (CompressionRange(min_tokens=200, max_tokens=_MOST_TOKENS, value=0.8),)
"""What counts if none is given; texts below the shortest range aren't pruned."""


@config_class
class CompressConfig:
    """Settings of one route's compression."""

    compressor_type: str = field(
        "Whether a range's value is a share of the words that stay, or a number of tokens.",
        default="rate", one_of=("rate", "target_token"),
    )  # fmt: skip
    compression_ranges: tuple[CompressionRange, ...] = field(
        "How far texts are pruned, by their length; left out, texts from 200 tokens keep about 0.8 of their "
        "words. Texts in no range are only folded.",
        default=(), len_max=20,
    )  # fmt: skip
    message_type: tuple[str, ...] = field(
        "Whose messages are compressed: user, assistant, system (developer messages, "
        "too) or tool (results of tools); left out, the user's.",
        default=("user",), one_of=("user", "assistant", "system", "tool"), len_min=1,
    )  # fmt: skip
    strict_requests: bool = field(
        "Whether a request that is no chat in strict JSON is refused; else it passes unread.",
        default=True,
    )
    min_tokens: int = field(
        "Texts below this are left as they are.", default=100, between=(0, _MOST_TOKENS), unit="tokens"
    )
    whitespace: bool = field(
        "Step: blanks at the ends of lines of prose and empty lines between its paragraphs become short.",
        default=True,
    )
    structure: bool = field(
        "Step: JSON over five lines or more and Markdown tables, outside code, are written without padding.",
        default=True,
    )
    repeats: bool = field(
        "Step, where the content is asked for: a passage or a line that comes again is there once, with a note "
        "where it came again.",
        default=True,
    )
    boilerplate: bool = field(
        "Step, where the content is asked for: rulers of logs and mail, and marks of quotes within quotes, become "
        "short.",
        default=True,
    )
    prune: bool = field(
        "Step, where the content is asked for: words that carry little are left out of transcripts of talk.",
        default=True,
    )
    pruner: str = field(
        "What chooses these words: rules, made for English; model, rules and then the small model that "
        "`tenantgate models build` builds; llmlingua, the model in pruner_model.",
        default="rules", one_of=("rules", "model", "llmlingua"),
    )  # fmt: skip
    pruner_model: str | None = field(
        "For llmlingua, an LLMLingua-2 model: a directory on the gateway, which may hold it as ONNX, or a name "
        "that transformers fetches. Without ONNX it needs the extra llmlingua.",
        default=None, len_min=1, len_max=500,
    )  # fmt: skip
    encoding: str = field(
        "The vocabulary that tokens are counted in: o200k_base for OpenAI's models since GPT-4o, cl100k_base for "
        "earlier ones, qwen3; other families differ by some percent.",
        default="o200k_base", one_of=("o200k_base", "cl100k_base", "qwen3"),
    )  # fmt: skip
    input_cost: float | None = field(
        "Price of a million prompt tokens, to tell the money saved; in any currency.",
        default=None, between=(0, 1_000_000),
    )  # fmt: skip
    stop_on_error: bool = field(
        "Whether a request that can't be compressed because something failed is answered with 503; else it "
        "passes unchanged. Running out of time is no failure.",
        default=False,
    )  # fmt: skip
    log_text_data: bool = field(
        "Always false: no text of a prompt is logged. Here for configurations written for ai-prompt-compressor.",
        default=False,
    )  # fmt: skip
    deadline_ms: int = field(
        "How long compression may take in all; a request that is not ready by then passes unchanged.",
        default=300, between=(1, 1400), unit="ms",
    )  # fmt: skip

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
