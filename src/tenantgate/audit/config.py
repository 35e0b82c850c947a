"""What an operator may set on the audit log: by route and tenant what is kept, by node where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import COUNT_MAX, MEGABYTES_MAX, config_class, field
from tenantgate.store.config import RedisConfig

__all__ = ["Audit", "AuditConfig", "PipelineConfig", "SinkConfig"]

_URL: Final = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"
_HEADER: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"

# Their values are credentials whatever a detector finds in them: no allowlist may name them.
_CREDENTIALS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-goog-api-key", "api-key",
        "apikey", "x-auth-token", "x-amz-security-token",
    }
)  # fmt: skip


@config_class
class SinkConfig:
    """One place where records go."""

    name: str = field(
        "The sink's name, for metrics and for what is still to be delivered: changing it starts from the oldest "
        "record that is kept.",
        match=_NAME, lua_match="^[a-z0-9][a-z0-9_-]*$", len_max=40,
    )  # fmt: skip
    type: str = field(
        "How records are delivered: JSON lines to standard output or a file, HTTP batches, or OTLP/HTTP spans.",
        one_of=("stdout", "file", "http", "otlp"),
    )
    path: str | None = field(
        "The file, for type file; one that doesn't begin with / lies in the audit log's own folder.",
        default=None, len_min=1,
    )  # fmt: skip
    url: str | None = field(
        "The address, for types http and otlp; without credentials in it: those go into headers.",
        default=None, match=_URL, lua_match="^https?://[^%s]+$",
    )  # fmt: skip
    headers: dict[str, str] = field(
        "Headers of each request to url, such as Authorization; values may be vault references.",
        default={}, referenceable=True,
    )  # fmt: skip
    batch_size: int = field("The most records in one delivery.", default=100, between=(1, 10_000))
    flush_ms: int = field(
        "How long a record may wait for others to fill a batch.", default=500, between=(10, 60_000), unit="ms"
    )
    timeout_ms: int = field(
        "How long one delivery may take; then it is tried again.",
        default=10_000, between=(100, 120_000), unit="ms",
    )  # fmt: skip
    gzip: bool = field("Whether requests to url are compressed.", default=True)
    ssl_verify: bool = field("Whether to verify the certificate of url.", default=True)


@config_class
class Audit:
    """The audit log's way from Kong to the operator's systems, one for each node."""

    dir: str = field(
        "A folder of this node's own, which Kong may write to: Kong's journal of requests (stock file-log, without any "
        "content), and what must outlive a restart.",
        default="/var/lib/tenantgate/audit", match=r"^/[^\s]+$",
    )  # fmt: skip
    node: str | None = field(
        "The node's name in its chains of records; left out, the host's name.",
        default=None,
        len_min=1,
        len_max=200,
    )
    spool: str = field(
        "Where records wait for their sinks: Redis Streams, or files in `dir`.",
        default="file",
        one_of=("redis", "file"),
    )
    max_records: int = field(
        "How many records may wait; beyond that the oldest lose their content, then go.",
        default=1_000_000,
        between=(1, COUNT_MAX),
    )
    max_megabytes: int = field(
        "How much waiting records may take; beyond that the oldest lose their content, then go.",
        default=1024, between=(1, MEGABYTES_MAX), unit="MiB",
    )  # fmt: skip
    sinks: tuple[SinkConfig, ...] = field(
        "Where records go, each sink at its own pace.", default=(), len_max=20
    )


@config_class
class PipelineConfig:
    """The node's one way from Kong's journal to the sinks; the same on every route."""

    journal: str = field(
        "The file that Kong's own file-log writes: a line for each request, without any content.", len_min=1
    )
    state_dir: str = field("A folder of the node's own for what must outlive a restart.", len_min=1)
    node: str | None = field(
        "The node's name in its chains of records, which must stay the same over restarts; left out, the "
        "host's name.",
        default=None, len_min=1, len_max=200,
    )  # fmt: skip
    spool: str = field(
        "Where records wait for their sinks: Redis Streams, or files in state_dir.",
        default="file", one_of=("redis", "file"),
    )  # fmt: skip
    redis: RedisConfig = field("The Redis of the spool.", default=RedisConfig(timeout_ms=500))
    max_records: int = field(
        "How many records may wait; beyond that the oldest lose their content, then go.",
        default=1_000_000, between=(1, COUNT_MAX),
    )  # fmt: skip
    max_megabytes: int = field(
        "How much waiting records may take; beyond that the oldest lose their content, then go.",
        default=1024, between=(1, MEGABYTES_MAX), unit="MiB",
    )  # fmt: skip
    journal_megabytes: int = field(
        "Size at which the journal, once read, is begun anew.", default=64, between=(1, 4096), unit="MiB"
    )
    wait_ms: int = field(
        "How long a line of the journal waits for the request's content, which takes another way.",
        default=2000, between=(0, 60_000), unit="ms",
    )  # fmt: skip
    queue_megabytes: int = field(
        "How much content may wait in memory, on each side of the way to the worker; beyond that content is "
        "left out, records never are.",
        default=32, between=(1, 4096), unit="MiB",
    )  # fmt: skip
    sinks: tuple[SinkConfig, ...] = field(
        "Where records go; several at once get the same records, each at its own pace.", default=()
    )


@config_class
class AuditConfig:
    """Settings of one route's audit log."""

    pipeline: PipelineConfig = field("The node's journal, spool and sinks; the same on every route.")
    encryption_key: str = field(
        "Key from which each tenant's own key for hashes is derived: 32 random bytes or more, as text.",
        len_min=16, referenceable=True,
    )  # fmt: skip
    content: str = field(
        "What is kept of prompts and replies: the text, redacted; keyed hashes of it; or nothing.",
        default="redacted", one_of=("redacted", "hashed", "off"),
    )  # fmt: skip
    redaction: str = field(
        "What stands for personal data and secrets: a numbered placeholder, a hash keyed by tenant (so that "
        "equal values can be joined), or nothing.",
        default="placeholder", one_of=("placeholder", "hash", "remove"),
    )  # fmt: skip
    names: bool = field(
        "Whether names of persons, places and organisations are redacted, too, by a recogniser: needs the "
        "extra ner, and some milliseconds of the worker's time per record. Without the extra, content is left out.",
        default=False,
    )  # fmt: skip
    strict_requests: bool = field(
        "Whether a request that is no chat in strict JSON is refused; else it passes unread, and its record says so.",
        default=True,
    )
    max_content_bytes: int = field(
        "How much of the prompt, and as much of the reply, is kept; the rest is cut off, which the record says.",
        default=32_768, between=(256, 1_048_576), unit="B",
    )  # fmt: skip
    headers: tuple[str, ...] = field(
        "Names of the request's headers that are kept, redacted as content is. Headers that carry credentials "
        "can't be named.",
        default=(), match=_HEADER, lua_match="^[A-Za-z0-9][A-Za-z0-9_-]*$", len_max=100,
    )  # fmt: skip
    client_ip: str = field(
        "What is kept of the client's address: a hash keyed by tenant, the address, or nothing.",
        default="hash", one_of=("hash", "keep", "remove"),
    )  # fmt: skip
    redaction_timeout_ms: int = field(
        "How long the redaction of one record may take; then its content is left out.",
        default=2000, between=(10, 60_000), unit="ms",
    )  # fmt: skip
    input_cost: float | None = field(
        "Price of a million tokens of prompt; left out, the cost is what Kong says, if it says any.",
        default=None, between=(0, 1_000_000),
    )  # fmt: skip
    output_cost: float | None = field(
        "Price of a million tokens of reply; left out, the cost is what Kong says, if it says any.",
        default=None, between=(0, 1_000_000),
    )  # fmt: skip
    deadline_ms: int = field(
        "How long keeping a request's body may take; then the record has no content.",
        default=50, between=(5, 1500), unit="ms",
    )  # fmt: skip

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems between the fields."""
        for name in self.headers:
            if name.lower() in _CREDENTIALS:
                yield "headers", f"{name} carries a credential"
        if (self.input_cost is None) != (self.output_cost is None):
            yield "input_cost, output_cost", "give both or none"
        seen = set()
        for sink in self.pipeline.sinks:
            if sink.name in seen:
                yield "pipeline.sinks", f"two are called {sink.name}"
            seen.add(sink.name)
            needs = {"file": "path", "http": "url", "otlp": "url"}.get(sink.type)
            if needs and not getattr(sink, needs):
                yield "pipeline.sinks", f"{sink.name}, of type {sink.type}, needs {needs}"
