"""Servers as plain values, as the tenants' records hold them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from tenantgate.mcp.core.tool import (
    Acl,
    Annotations,
    Body,
    Credential,
    Encoding,
    Json,
    Operation,
    Parameter,
    RemoteTool,
    Server,
    Tool,
)

__all__ = ["from_record", "to_record"]


_LATER: Final = ("model", "cache_s", "max_arguments_bytes", "max_result_bytes")
"""Members of tools that records of 0.1 hadn't."""


def to_record(server: Server) -> dict[str, Any]:
    """JSON's values of a server.

    Later members are left out where they say nothing: an engine refuses a record with a member that it doesn't know,
    and during an upgrade engines of both versions read the same one.
    """
    tree = asdict(server)
    for tool in (*tree["tools"], *tree["allowed"]):
        for name in _LATER:
            if not tool.get(name, True):
                del tool[name]
    return tree


def from_record(tree: Json) -> Server:
    """The server in values that `to_record` gave, by this version or an earlier one.

    Raises:
        TypeError, KeyError: they are something else.
    """
    acl = tree.get("default_acl") or {}
    credential = tree.get("credential")
    return Server(
        **{
            **tree,
            "credential": Credential(**credential) if credential else None,
            "tools": tuple(_tool(t) for t in tree.get("tools", ())),
            "allowed": tuple(_remote_tool(t) for t in tree.get("allowed", ())),
            "default_acl": _acl(acl),
        }
    )


def _remote_tool(tree: Mapping[str, Any]) -> RemoteTool:
    return RemoteTool(**{**tree, "acl": _acl(tree["acl"]) if tree.get("acl") is not None else None})


def _tool(tree: Mapping[str, Any]) -> Tool:
    operation = tree["operation"]
    body = operation.get("body")
    return Tool(
        **{
            "output_schema": None,  # records leave out what is None
            **tree,
            "annotations": Annotations(**tree["annotations"]),
            "acl": _acl(tree["acl"]) if tree.get("acl") is not None else None,
            "operation": Operation(
                **{
                    **operation,
                    "parameters": tuple(
                        Parameter(**{**p, "encoding": Encoding(**p["encoding"])})
                        for p in operation.get("parameters", ())
                    ),
                    "body": None
                    if body is None
                    else Body(
                        **{**body, "encodings": {k: Encoding(**e) for k, e in body["encodings"].items()}}
                    ),
                }
            ),
        }
    )


def _acl(tree: Mapping[str, Any]) -> Acl:
    return Acl(**{name: tuple(names) for name, names in tree.items()})
