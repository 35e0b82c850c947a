"""Which model a request asks for, and what a client is told that asks for another one.

Sources: https://platform.openai.com/docs/api-reference/models, https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.policy.core.names import find_model, listed_names
from tenantgate.policy.core.records import ModelPolicy, TenantPolicy

__all__ = ["ModelError", "by_body", "by_path", "listing"]

_SHOWN: Final = 50  # names in a message
_NAME: Final = 200  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class ModelError:
    """A request for a model that it doesn't get."""

    status: int
    code: Code
    message: str

    def body(self, request_id: str | None = None) -> bytes:
        """The error in OpenAI's shape."""
        kind = ErrorType.INVALID_REQUEST
        return error_body(self.message, kind=kind, code=self.code, param="model", request_id=request_id)


def by_body(policy: TenantPolicy, name: str, known: AbstractSet[str]) -> ModelPolicy | ModelError:
    """The model that a body's ``model`` names; `known` are the names of all models of the gateway."""
    if not name:
        return ModelError(
            400, Code.INVALID_REQUEST, f"The request names no model. Name one of: {_names(policy)}."
        )
    return find_model(policy, name) or _no_model(policy, name, known)


def by_path(
    policy: TenantPolicy, captures: Mapping[str, str], body_model: str | None, known: AbstractSet[str]
) -> ModelPolicy | ModelError:
    """The model that a path's ``provider`` and ``model`` name, with which the body's must agree where it has one."""
    if (tenant := captures.get("tenant")) and unquote(tenant) != str(policy.tenant):
        return ModelError(
            403, Code.PERMISSION_DENIED, "This API key may not use the route of another tenant."
        )
    name = f"{unquote(captures.get('provider', ''))}/{unquote(captures.get('model', ''))}"
    found = next((model for model in policy.models if model.qualified == name), None)
    if found is None:
        return _no_model(policy, name, known)
    if body_model and body_model != found.model and find_model(policy, body_model) is not found:
        return ModelError(
            400,
            Code.INVALID_REQUEST,
            f"The path names the model {found.model}; the request's `model` must be the same, or absent.",
        )
    return found


def _no_model(policy: TenantPolicy, name: str, known: AbstractSet[str]) -> ModelError:
    shown = "".join(c if c.isprintable() else "?" for c in name[:_NAME])
    if name in known:
        return ModelError(
            403,
            Code.MODEL_NOT_ALLOWED,
            f"This API key may not use the model {shown}. It may use: {_names(policy)}.",
        )
    return ModelError(
        404,
        Code.MODEL_NOT_FOUND,
        f"The model {shown} does not exist here. This API key may use: {_names(policy)}.",
    )


def _names(policy: TenantPolicy) -> str:
    names = [name for name, _ in listed_names(policy)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def listing(policy: TenantPolicy, name: str | None) -> bytes | None:
    """The answer to ``GET /v1/models``, or to ``GET /v1/models/{name}``; None where there is no such model."""
    if name is not None:
        found = find_model(policy, name)
        return None if found is None else _json(_entry(name, found))
    return _json({"object": "list", "data": [_entry(shown, model) for shown, model in listed_names(policy)]})


def _entry(name: str, model: ModelPolicy) -> dict[str, Any]:
    # `root` as vLLM has it: the model behind an alias.
    return {"id": name, "object": "model", "created": 0, "owned_by": model.provider, "root": model.model}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
