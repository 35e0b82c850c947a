"""Which targets speak an operation besides chat, and where."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from tenantgate.llm.operations import Operation
from tenantgate.policy.core.records import Target

__all__ = ["SECTIONS", "speaking"]

_SPOKEN: Final[Mapping[str, AbstractSet[Operation]]] = {
    "openai": frozenset(Operation),
    "azure": frozenset(Operation),
    "mistral": frozenset({Operation.CHAT, Operation.EMBEDDINGS}),
}
"""By ai-proxy's provider, the operations of OpenAI's API that it may have under OpenAI's names."""

_OWN_FORMAT: Final = "tenantgate"

SECTIONS: Final[Mapping[Operation, AbstractSet[str]]] = {
    operation: frozenset({"limits", "audit", "guardrails", "response_guardrails"})
    | ({"cache"} if operation is Operation.EMBEDDINGS else frozenset())
    for operation in Operation
    if operation is not Operation.CHAT
}
"""By operation the sections of tenants.yaml whose stages take part: of vectors the same request has the same."""


def speaking(target: Target, operation: Operation) -> Target | None:
    """The target for this operation; None where it hasn't got it, or its address isn't known.

    A chat's address ends as OpenAI's does, or nobody knows where its other operations are.
    """
    if operation not in _SPOKEN.get(target.provider, frozenset()):
        return None
    # The formats in place of Kong's drivers know chats alone.
    given = {name: value for name, value in target.options.items() if name != _OWN_FORMAT}
    url = given.get("upstream_url")
    if url is None:
        # Kong puts it behind the deployment's path at Azure.
        path = operation.path if target.provider == "azure" else "/v1" + operation.path
        return replace(target, options={**given, "upstream_path": path})
    parts = urlsplit(str(url))
    base = parts.path.removesuffix(Operation.CHAT.path)
    if base == parts.path:
        return None
    path = base + operation.path
    # With an address alone `preserve` would take the path of the client's request.
    options = {**given, "upstream_url": parts._replace(path=path).geturl(), "upstream_path": path}
    return replace(target, options=options)
