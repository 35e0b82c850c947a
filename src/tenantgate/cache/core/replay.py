"""A stored answer as an HTTP answer: JSON or server-sent events, with the cache's headers.

Header names as in Kong's proxy-cache and ai-semantic-cache; `X-Cache-Similarity` is ours: the cosine between the
two questions, only where the answer was found by similarity.
"""

from __future__ import annotations

from tenantgate.cache.core.cache_control import Status
from tenantgate.cache.core.entry import Entry
from tenantgate.cache.core.outcome import Hit
from tenantgate.llm import chat
from tenantgate.llm.chat import ChatRequest

__all__ = ["hit_headers", "replay", "status_headers"]


def status_headers(status: Status, name: str | None = None) -> dict[str, str]:
    """The headers of an answer that doesn't come from the cache."""
    headers = {"X-Cache-Status": status.value}
    if name is not None:
        headers["X-Cache-Key"] = name
    return headers


def hit_headers(hit: Hit, now: float) -> dict[str, str]:
    """The headers of an answer from the cache."""
    entry, similarity = hit.entry, hit.similarity
    headers = status_headers(hit.status, hit.name)
    headers["X-Cache-Ttl"] = str(max(0, int(entry.remaining_s(now))))
    headers["Age"] = str(int(entry.age_s(now)))
    if similarity is not None:
        headers["X-Cache-Similarity"] = f"{min(1.0, similarity):.4f}"
    return headers


def replay(entry: Entry, request: ChatRequest, now: float, *, identifier: str) -> tuple[bytes, str]:
    """The body and its content type, as this client asked for them, whichever way the answer was made."""
    created = int(now)
    if request.stream:
        body = chat.reply_sse(
            entry.reply, identifier=identifier, created=created, include_usage=request.include_usage
        )
        return body, chat.SSE_TYPE
    return chat.reply_json(entry.reply, identifier=identifier, created=created), chat.JSON_TYPE
