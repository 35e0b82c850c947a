"""Tokens in a record: ``gen_ai.usage``, by names of OpenTelemetry's conventions, and by our own where it has none."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.audit.core.journal import JournalLine

__all__ = ["usage_of", "usage_schema"]

_PARTS: Final = {
    "cache_read": ("Tokens that the provider's prompt cache had.", "input_tokens"),
    "cache_creation": ("Tokens that the provider's prompt cache took in.", "input_tokens"),
    "cache_creation_1h": ("Of these, tokens that it keeps for an hour.", "input_tokens"),
    "reasoning": ("Tokens of reasoning.", "output_tokens"),
    "audio": ("Tokens of audio.", "input_tokens", "output_tokens"),
}
"""Parts of the usage, which its two counts include."""


def usage_of(line: JournalLine) -> dict[str, Any]:
    """The usage of a request; empty where nobody has counted."""
    used = line.usage
    if used is None:
        if line.tokens is None:
            return {}
        prompt, completion, _ = line.tokens
        return {"input_tokens": prompt, "output_tokens": completion}
    parts = {
        "cache_read": {"input_tokens": used.cache_read},
        "cache_creation": {"input_tokens": used.cache_write},
        "cache_creation_1h": {"input_tokens": used.cache_write_1h},
        "reasoning": {"output_tokens": used.reasoning},
        "audio": {"input_tokens": used.audio_input, "output_tokens": used.audio_output},
    }
    known = {name: {k: v for k, v in part.items() if v} for name, part in parts.items()}
    flags = {"estimated": used.estimated, "lower_bound": used.lower_bound}
    return {
        # Of a stream that broke off nobody may have counted the prompt.
        **({} if used.lower_bound and not used.input else {"input_tokens": used.input}),
        "output_tokens": used.output,
        **{name: part for name, part in known.items() if part},
        **{name: True for name, flag in flags.items() if flag},
    }


def usage_schema() -> dict[str, Any]:
    """The JSON schema of it."""
    parts = {
        name: _object(description, {side: _count("How many.") for side in sides}, additionalProperties=False)
        for name, (description, *sides) in _PARTS.items()
    }
    return _object(
        "gen_ai.usage.*",
        {
            "input_tokens": _count("Tokens of the prompt."),
            "output_tokens": _count("Tokens of the reply."),
            **parts,
            "estimated": _flag("The provider told no usage: four characters are a token."),
            "lower_bound": _flag("The stream broke off: the provider may bill more."),
        },
    )


def _object(description: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties, **more}


def _count(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description, "minimum": 0}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}
