"""What `tenant-prompt-compressor` does in its phase: the pipeline joined with Kong, models and metrics.

PDK calls in access: consumer, body and verdict; a body that was read takes the reply's headers, a changed one the
request's headers and its replacement: 3 to 6.
"""

from __future__ import annotations

import enum
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tenantgate.compress.config import CompressConfig
from tenantgate.compress.core.pipeline import Compressor, OutOfTimeError, Steps
from tenantgate.compress.core.plan import Part, parts, replaced
from tenantgate.compress.pruners import pruner_in_background
from tenantgate.compress.token_counts import token_counter
from tenantgate.kong import DeadlineError
from tenantgate.llm.chat import ChatRequest, Refusal
from tenantgate.models.language import english
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.kong import Host
    from tenantgate.tenant import TenantId

__all__ = ["AFTER", "BEFORE", "MOST_BYTES", "PLUGIN", "SWITCH", "Outcome", "PromptCompression"]

PLUGIN: Final = "tenant-prompt-compressor"
SWITCH: Final = "X-Tenantgate-Compression"
"""A client's header: ``off`` sends this request's texts as they are."""
BEFORE: Final = "X-Compression-Tokens-Before"
AFTER: Final = "X-Compression-Tokens-After"
MOST_BYTES: Final = 1_000_000
"""Kong takes no larger body from a plugin server (a message of 1 MiB, its frame included)."""
_RESERVE_MS: Final = 5.0  # for the calls to Kong after the work

_NOTHING: Final = Steps()

_log: Final = logging.getLogger("tenantgate.compress")


class Outcome(enum.Enum):
    """What became of a request."""

    COMPRESSED = "compressed"
    UNCHANGED = "unchanged"
    OUT_OF_TIME = "out_of_time"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    SWITCHED_OFF = "switched_off"
    FAILED = "failed"


_requests: Final = metrics.counter(
    "tenantgate_compress_requests_total", "Requests by what became of them.", ("tenant", "outcome")
)
_tokens: Final = metrics.counter(
    "tenantgate_compress_tokens_total",
    "Tokens of the texts that may be compressed, before and after.",
    ("tenant", "when"),
)
_saved: Final = metrics.counter(
    "tenantgate_compress_saved_tokens_total", "Tokens saved, by step.", ("tenant", "step")
)
_money: Final = metrics.counter(
    "tenantgate_compress_saved_cost_total",
    "Money saved, in the currency of input_cost, where that is set.",
    ("tenant",),
)
_refused: Final = metrics.counter(
    "tenantgate_compress_refused_total", "Results of a step that a check threw away.", ("problem",)
)
_seconds: Final = metrics.histogram(
    "tenantgate_compress_seconds", "Time for a request's texts.", ("outcome",)
)


@dataclass(frozen=True, slots=True)
class Done:
    """A request's result: a body if there is a shorter one."""

    outcome: Outcome
    before: int = 0
    after: int = 0
    steps: Steps = _NOTHING
    body: bytes | None = None


class PromptCompression:
    """The compression of one configuration; vocabularies and models are shared by all of a process."""

    def __init__(self, config: CompressConfig, compressor: Compressor | None = None) -> None:
        self._config = config
        self._counter = token_counter(config.encoding)
        self._compressor = compressor or Compressor(
            config, self._counter, pruner_in_background(config) if config.prune else None, english=english
        )

    def access(self, host: Host) -> None:
        """Send a shorter prompt upstream, or leave the request as it is."""
        request, tenant = host.chat_request(), host.tenant()
        if isinstance(request, Refusal):
            host.refuse_unread(request, strict=self._config.strict_requests)
        if tenant is None:  # nobody whose saving this could be; key-auth lets none through
            return
        started = time.monotonic()
        try:
            done = self._compress(request, len(host.body()), started + self._budget_s(host))
            # Asked only where it makes a difference: most requests are short and change nothing.
            if done.body is not None and _switched_off(host):
                done = Done(Outcome.SWITCHED_OFF, done.before, done.before)
        except DeadlineError:
            raise
        except Exception as error:
            if self._config.stop_on_error:
                raise
            logs.event(_log, logging.WARNING, "request not compressed", **logs.describe(error))
            done = Done(Outcome.FAILED)
        self._note(host, tenant, done, time.monotonic() - started)

    def _budget_s(self, host: Host) -> float:
        # Time in the plugin server's queue counts: what is left of the phase may be less than the configured time.
        return max(0.0, min(self._config.deadline_ms, host.remaining_ms() - _RESERVE_MS)) / 1000

    def _compress(self, request: ChatRequest | Refusal, size: int, deadline: float) -> Done:
        if isinstance(request, Refusal):
            return Done(Outcome.UNREADABLE)
        before = after = 0
        steps = Steps()
        changed: list[tuple[Part, str]] = []
        # What isn't text (images in base64) stays: with more than a megabyte of it no rewrite can be small enough.
        if size - sum(len(p.text.encode()) for p in parts(request, self._config)) > MOST_BYTES:
            return Done(Outcome.TOO_LARGE)
        try:
            for part, result in self._compressor.request(request, deadline):
                before, after, steps = before + result.before, after + result.after, steps + result.steps
                if result.text != part.text:
                    changed.append((part, result.text))
        except OutOfTimeError:
            return Done(Outcome.OUT_OF_TIME)
        if not changed:
            return Done(Outcome.UNCHANGED, before, before, steps)
        body = rewritten(request, changed)
        if body is None or len(body) > MOST_BYTES:
            return Done(Outcome.TOO_LARGE, before, before, steps)
        if time.monotonic() >= deadline:
            return Done(Outcome.OUT_OF_TIME, before, before, steps)
        return Done(Outcome.COMPRESSED, before, after, steps, body)

    def _note(self, host: Host, tenant: TenantId, done: Done, seconds: float) -> None:
        verdict: dict[str, Any] = {
            "action": done.outcome.value,
            "tokens_before": done.before,
            "tokens_after": done.after,
            "encoding": self._counter.name,
            "ms": round(seconds * 1000, 1),
        }
        if done.body is not None:
            host.replace_body(done.body)
            verdict["saved"] = self._count_savings(tenant, done)
            verdict["pruner"] = self._compressor.fingerprint
        host.put_verdict(PLUGIN, verdict)
        if done.outcome in (Outcome.COMPRESSED, Outcome.UNCHANGED, Outcome.SWITCHED_OFF):
            host.set_headers({BEFORE: str(done.before), AFTER: str(done.after)})
            _tokens.inc(done.before, tenant=tenant.slug, when="before")
            _tokens.inc(done.after, tenant=tenant.slug, when="after")
        _requests.inc(tenant=tenant.slug, outcome=done.outcome.value)
        _seconds.observe(seconds, outcome=done.outcome.value)
        for problem, n in Counter(done.steps.refused).items():
            _refused.inc(n, problem=problem.value)

    def _count_savings(self, tenant: TenantId, done: Done) -> Mapping[str, Any]:
        saved = {"fold": done.steps.folded, "prune": done.steps.pruned}
        for step, n in saved.items():
            _saved.inc(n, tenant=tenant.slug, step=step)
        if self._config.input_cost is None:
            return saved
        cost = (done.before - done.after) * self._config.input_cost / 1e6
        _money.inc(cost, tenant=tenant.slug)
        return {**saved, "cost": round(cost, 9)}


def _switched_off(host: Host) -> bool:
    return (host.headers().get(SWITCH) or "").strip().lower() in ("off", "false", "no", "none", "0")


def rewritten(request: ChatRequest, changed: list[tuple[Part, str]]) -> bytes | None:
    """The body with the changed texts, or None if it can't be written as JSON."""
    body = replaced(request, changed)
    try:
        try:
            return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:  # a lone surrogate somewhere else in the body
            return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # 1e999, which Python reads as infinity
        return None
