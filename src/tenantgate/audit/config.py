"""What an operator may set on the audit log: by route and tenant what is kept, by node where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.alert_config import Receiver
from tenantgate.audit.core.gen_ai import VERSIONS
from tenantgate.fields import COUNT_MAX, MEGABYTES_MAX, config_class, field
from tenantgate.store.config import RedisConfig

__all__ = ["Audit", "AuditConfig", "PipelineConfig", "SinkConfig"]

_URL: Final = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"
_METER: Final = r"^[A-Za-z0-9_.-]+$"
_HEADER: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"

# Their values are credentials whatever a detector finds in them: no allowlist may name them.
_CREDENTIALS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "apikey",
        "x-auth-token",
        "x-amz-security-token",
    }
)


@config_class
class SinkConfig:
    """One place where records go."""

    name: str = field(
        "Name of the sink, for metrics and its position in the spool. After a change of the name delivery starts "
        "again at the oldest kept record.",
        match=_NAME,
        lua_match="^[a-z0-9][a-z0-9_-]*$",
        len_max=40,
    )
    type: str = field(
        "Kind of delivery: JSON lines to standard output or a file, HTTP batches, OTLP/HTTP, or spans to a project of "
        "Langfuse.",
        one_of=("stdout", "file", "http", "otlp", "langfuse"),
    )
    tenants: tuple[str, ...] = field(
        "Tenants whose records this sink gets. Default: those of all. Type langfuse must name them, since each of "
        "them is seen by who reads that project.",
        default=(),
        len_max=1000,
    )
    format: str = field(
        "What type http sends: whole records, or their usage alone, as CloudEvents or as OpenMeter, Lago and Stripe "
        "take it.",
        default="records",
        one_of=("records", "cloudevents", "openmeter", "lago", "stripe"),
    )
    meter: str = field(
        "Name of the usage at a billing system: OpenMeter's event type, Lago's code, and the beginning of Stripe's "
        "event names.",
        default="llm_usage",
        match=_METER,
        lua_match="^[A-Za-z0-9_.-]+$",
        len_max=60,
    )
    customers: dict[str, str] = field(
        "Name of each tenant's customer (OpenMeter, Stripe) or subscription (Lago) there. Default: the tenant's id.",
        default={},
    )
    signal: str = field(
        "What type otlp sends: a span for each record, a log record for each, or metrics of the requests.",
        default="traces",
        one_of=("traces", "logs", "metrics"),
    )
    conventions: str = field(
        "Version of OpenTelemetry's gen_ai conventions by which types otlp and langfuse name things; latest is their "
        "unreleased state.",
        default="1.41",
        one_of=VERSIONS,
    )
    usage: bool = field(
        "Send tokens and cost by types otlp and langfuse. Turn it off where clients send spans with their own usage to "
        "the same place, which would count it twice.",
        default=True,
    )
    content: bool | None = field(
        "Send prompts and replies by types otlp and langfuse, as the record has them: redacted. Default: type otlp "
        "does, type langfuse doesn't.",
        default=None,
    )
    public_key: str | None = field("Public key of the project, for type langfuse.", default=None, len_min=1)
    secret_key: str | None = field(
        "Secret key of the project, for type langfuse: a vault reference.",
        default=None,
        len_min=1,
        referenceable=True,
    )
    path: str | None = field(
        "File, for type file. A path that doesn't begin with / is relative to the audit log's directory.",
        default=None,
        len_min=1,
    )
    url: str | None = field(
        "Address, for types http, otlp and langfuse (there Langfuse's own, as https://cloud.langfuse.com), without "
        "credentials.",
        default=None,
        match=_URL,
        lua_match="^https?://[^%s]+$",
        address=True,
    )
    headers: dict[str, str] = field(
        "Headers of each request to url, such as Authorization. Values may be vault references.",
        default={},
        referenceable=True,
    )
    batch_size: int = field("Most records in one delivery.", default=100, between=(1, 10_000))
    flush_ms: int = field(
        "Longest wait of a record for others to fill a batch.", default=500, between=(10, 60_000), unit="ms"
    )
    timeout_ms: int = field(
        "Time-out of one delivery; after it the delivery is tried again.",
        default=10_000,
        between=(100, 120_000),
        unit="ms",
    )
    gzip: bool = field("Compress requests to url with gzip.", default=True)
    ssl_verify: bool = field("Verify the certificate of url.", default=True)


@config_class
class Audit:
    """The audit log's way from Kong to the operator's systems, one for each node."""

    dir: str = field(
        "Directory on this node, writable for Kong's user: the journal of requests (stock file-log, without "
        "content), and data that must survive a restart.",
        default="/var/lib/tenantgate/audit",
        match=r"^/[^\s]+$",
    )
    node: str | None = field(
        "Name of the node in its hash chains. Default: the host's name.", default=None, len_min=1, len_max=200
    )
    spool: str = field(
        "Where records wait for their sinks: Redis Streams, or files in `dir`.",
        default="file",
        one_of=("redis", "file"),
    )
    max_records: int = field(
        "Most records that may wait for delivery. Beyond this the oldest records lose their content and are then "
        "removed.",
        default=1_000_000,
        between=(1, COUNT_MAX),
    )
    max_megabytes: int = field(
        "Most space for records that wait for delivery. Beyond this the oldest records lose their content and are "
        "then removed.",
        default=1024,
        between=(1, MEGABYTES_MAX),
        unit="MiB",
    )
    sinks: tuple[SinkConfig, ...] = field(
        "Destinations of records. Each goes through all records, at its own speed.", default=(), len_max=200
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems between the fields."""
        seen = set()
        for i, sink in enumerate(self.sinks):
            if sink.name in seen:
                yield f"sinks[{i}].name", f"two are called {sink.name}"
            seen.add(sink.name)
            yield from ((f"sinks[{i}]", f"{sink.name}{problem}") for problem in _of_sink(sink))


@config_class
class PipelineConfig:
    """The node's one way from Kong's journal to the sinks; the same on every route."""

    journal: str = field(
        "File that Kong's file-log writes: one line for each request, without content.", len_min=1
    )
    state_dir: str = field("Directory on this node for data that must survive a restart.", len_min=1)
    node: str | None = field(
        "Name of the node in its hash chains, which must stay the same over restarts. Default: the host's name.",
        default=None,
        len_min=1,
        len_max=200,
    )
    spool: str = field(
        "Where records wait for their sinks: Redis Streams, or files in state_dir.",
        default="file",
        one_of=("redis", "file"),
    )
    redis: RedisConfig = field("Redis of the spool.", default=RedisConfig(timeout_ms=500))
    max_records: int = field(
        "Most records that may wait for delivery. Beyond this the oldest records lose their content and are then "
        "removed.",
        default=1_000_000,
        between=(1, COUNT_MAX),
    )
    max_megabytes: int = field(
        "Most space for records that wait for delivery. Beyond this the oldest records lose their content and are "
        "then removed.",
        default=1024,
        between=(1, MEGABYTES_MAX),
        unit="MiB",
    )
    journal_megabytes: int = field(
        "Size at which the journal, once read, is replaced by a new file.",
        default=64,
        between=(1, 4096),
        unit="MiB",
    )
    wait_ms: int = field(
        "Longest wait of a journal line for the content of its request, which arrives separately.",
        default=2000,
        between=(0, 60_000),
        unit="ms",
    )
    queue_megabytes: int = field(
        "Most content in memory, in the plugin and in the worker each. Beyond this content is left out; records "
        "never are.",
        default=32,
        between=(1, 4096),
        unit="MiB",
    )
    sinks: tuple[SinkConfig, ...] = field(
        "Destinations of records. Each goes through all records, at its own speed.", default=()
    )
    receivers: tuple[Receiver, ...] = field("Receivers of alerts, which get events only.", default=())


@config_class
class AuditConfig:
    """Settings of one route's audit log."""

    pipeline: PipelineConfig = field("Journal, spool and sinks of the node; the same on every route.")
    encryption_key: str = field(
        "Secret from which each tenant's own key for hashes is derived: 32 random bytes or more, as text.",
        len_min=16,
        referenceable=True,
    )
    content: str = field(
        "What is kept of prompts and replies: the redacted text, keyed hashes of it, or nothing.",
        default="redacted",
        one_of=("redacted", "hashed", "off"),
    )
    redaction: str = field(
        "Replacement for personal data and secrets: a numbered placeholder; a hash keyed by tenant, the same for "
        "equal values; or nothing.",
        default="placeholder",
        one_of=("placeholder", "hash", "remove"),
    )
    names: bool = field(
        "Also redact names of persons, places and organisations. Needs the extra ner, and some milliseconds of "
        "the worker's time for each record. Without the extra, content is left out.",
        default=False,
    )
    strict_requests: bool = field(
        "Refuse requests that aren't a chat request in strict JSON. Otherwise they pass unread, and their records "
        "say so.",
        default=True,
    )
    max_content_bytes: int = field(
        "Kept bytes of the prompt, and as many of the reply. The rest is cut off, and the record says so.",
        default=32_768,
        between=(256, 1_048_576),
        unit="B",
    )
    headers: tuple[str, ...] = field(
        "Request headers that are kept, redacted like content. Headers with credentials can't be named.",
        default=(),
        match=_HEADER,
        lua_match="^[A-Za-z0-9][A-Za-z0-9_-]*$",
        len_max=100,
    )
    client_ip: str = field(
        "What is kept of the client's address: a hash keyed by tenant, the address, or nothing.",
        default="hash",
        one_of=("hash", "keep", "remove"),
    )
    end_user: str = field(
        "What is kept of the end user that a request names: a hash keyed by tenant, the text itself, or nothing.",
        default="hash",
        one_of=("hash", "keep", "remove"),
    )
    redaction_timeout_ms: int = field(
        "Most time for the redaction of one record. After this its content is left out.",
        default=2000,
        between=(10, 60_000),
        unit="ms",
    )
    input_cost: float | None = field(
        "Dollars for a million prompt tokens. Default: the model's prices, else the cost that Kong logs, if any.",
        default=None,
        between=(0, 1_000_000),
    )
    output_cost: float | None = field(
        "Dollars for a million completion tokens. Default: the model's prices, else the cost that Kong logs, if any.",
        default=None,
        between=(0, 1_000_000),
    )
    prices: dict[str, str] = field("Price lists of the model's targets by their ids, as JSON.", default={})
    deadline_ms: int = field(
        "Most time to keep a request's body. After this the record has no content.",
        default=50,
        between=(5, 1500),
        unit="ms",
    )

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
            yield from (("pipeline.sinks", f"{sink.name}{problem}") for problem in _of_sink(sink))


_NEEDED: Final = {
    "file": ("path",),
    "http": ("url",),
    "otlp": ("url",),
    "langfuse": ("url", "tenants", "public_key", "secret_key"),
}


def _of_sink(sink: SinkConfig) -> Iterator[str]:
    """What is wrong with a sink, to be put behind its name."""
    for needed in _NEEDED.get(sink.type, ()):
        if not getattr(sink, needed):
            yield f", of type {sink.type}, needs {needed}"
    if sink.format != "records" and sink.type != "http":
        yield f": format {sink.format} needs type http"
    if sink.signal != "traces" and sink.type != "otlp":
        yield f": signal {sink.signal} needs type otlp"
    for name in ("public_key", "secret_key"):
        if getattr(sink, name) is not None and sink.type != "langfuse":
            yield f": {name} needs type langfuse"
