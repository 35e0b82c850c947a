"""Schemas and priorities of the stock plugins that the embedded host knows.

Written from `kong/plugins/*/schema.lua` and `kong/llm/schemas/init.lua`. ``refuse`` marks what this host can't
do as Kong does it: any value but the default (or one in ``accept``) is an error that says so.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["PRIORITIES", "SCHEMAS"]

_Fields = list[dict[str, Any]]


def _string(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _bool(default: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": "boolean", "default": default, **more}


def _record(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "fields": list(fields), **more}


def _strings(**more: Any) -> dict[str, Any]:
    return {"type": "array", "elements": _string(), **more}


_KEY_AUTH: _Fields = [
    {"key_names": _strings(default=["apikey"], required=True)},
    {"hide_credentials": _bool()},
    {"anonymous": _string(refuse="anonymous access")},
    {"key_in_header": _bool(True)},
    {"key_in_query": _bool(True)},
    {"key_in_body": _bool(refuse="keys in the body")},
    {"run_on_preflight": _bool(True)},
    {"realm": _string()},
]

_ACL: _Fields = [
    {"allow": _strings()},
    {"deny": _strings()},
    {"hide_groups_header": _bool()},
    {"always_use_authenticated_groups": _bool(refuse="authenticated groups")},
]

_CORRELATION_ID: _Fields = [
    {"header_name": _string(default="Kong-Request-ID")},
    {
        "generator": _string(
            default="uuid#counter",
            one_of=["uuid", "uuid#counter", "tracker"],
            refuse="the tracker generator",
            accept=("uuid",),
        )
    },
    {"echo_downstream": _bool()},
]

_REQUEST_SIZE: _Fields = [
    {"allowed_payload_size": {"type": "integer", "default": 128}},
    {"size_unit": _string(default="megabytes", one_of=["megabytes", "kilobytes", "bytes"])},
    {"require_content_length": _bool()},
]

_METHODS = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
_CORS: _Fields = [
    {"origins": _strings()},
    {"headers": _strings(refuse="a list of allowed headers")},
    {"exposed_headers": _strings()},
    {"methods": {"type": "array", "default": _METHODS, "elements": _string(one_of=_METHODS)}},
    {"max_age": {"type": "number"}},
    {"credentials": _bool(refuse="credentials for other sites")},
    {"private_network": _bool(refuse="private networks")},
    {"preflight_continue": _bool(refuse="preflight requests that go on")},
]

_CODE = {"type": "array", "elements": _string()}
_FUNCTION: _Fields = [
    *(
        {phase: {**_CODE, "default": []}}
        for phase in ("rewrite", "access", "header_filter", "body_filter", "log")
    ),
    {"certificate": {**_CODE, "default": [], "refuse": "the certificate phase"}},
]

_FILE_LOG: _Fields = [
    {"path": _string(required=True)},
    {"reopen": _bool()},
    {"custom_fields_by_lua": {"type": "map", "keys": _string(), "values": _string()}},
]

_NO_PARAM = "credentials in the query or body"
_AUTH = _record(
    {"header_name": _string(referenceable=True)},
    {"header_value": _string(referenceable=True)},
    {"param_name": _string(referenceable=True)},
    {"param_value": _string(referenceable=True)},
    {"param_location": _string(one_of=["query", "body"], refuse=_NO_PARAM, accept=("query",))},
    {"gcp_use_service_account": _bool(refuse="Google service accounts")},
    {"gcp_service_account_json": _string(referenceable=True, refuse="Google service accounts")},
    {"aws_access_key_id": _string(referenceable=True, refuse="AWS credentials")},
    {"aws_secret_access_key": _string(referenceable=True, refuse="AWS credentials")},
    {"allow_override": _bool()},
)

_OPTIONS = _record(
    {"max_tokens": {"type": "integer"}},
    {"input_cost": {"type": "number", "gt": 0}},
    {"output_cost": {"type": "number", "gt": 0}},
    {"temperature": {"type": "number", "between": [0.0, 5.0]}},
    {"top_p": {"type": "number", "between": [0, 1]}},
    {"top_k": {"type": "integer", "between": [0, 500]}},
    {"anthropic_version": _string()},
    {"azure_instance": _string()},
    {"azure_api_version": _string(default="2023-05-15")},
    {"azure_deployment_id": _string()},
    {"llama2_format": _string()},
    {"mistral_format": _string()},
    {"upstream_url": _string()},
    {"upstream_path": _string()},
    {"gemini": {"type": "record", "fields": [], "refuse": "Vertex AI"}},
    {"bedrock": {"type": "record", "fields": [], "refuse": "Bedrock"}},
    {"huggingface": {"type": "record", "fields": [], "refuse": "Hugging Face"}},
)

_PROVIDERS = (
    "openai",
    "azure",
    "anthropic",
    "cohere",
    "mistral",
    "llama2",
    "gemini",
    "bedrock",
    "huggingface",
)
_AI_PROXY: _Fields = [
    {
        "route_type": _string(
            required=True,
            one_of=["llm/v1/chat", "llm/v1/completions", "preserve"],
            refuse="only chat routes",
            accept=("llm/v1/chat",),
        )
    },
    {"auth": _AUTH},
    {
        "model": _record(
            {
                "provider": _string(
                    required=True,
                    one_of=list(_PROVIDERS),
                    refuse="it translates for openai-compatible, anthropic and gemini upstreams only",
                    accept=("openai", "anthropic", "gemini"),
                )
            },
            {"name": _string()},
            {"options": _OPTIONS},
            required=True,
        )
    },
    {"logging": _record({"log_statistics": _bool()}, {"log_payloads": _bool()}, required=True)},
    {"response_streaming": _string(default="allow", one_of=["allow", "deny", "always"])},
    {"max_request_body_size": {"type": "integer", "default": 8192, "gt": 0}},
    {"model_name_header": _bool(True)},
    {"llm_format": _string(default="openai", refuse="native formats")},
]

SCHEMAS: Final[dict[str, _Fields]] = {
    "correlation-id": _CORRELATION_ID,
    "key-auth": _KEY_AUTH,
    "request-size-limiting": _REQUEST_SIZE,
    "cors": _CORS,
    "acl": _ACL,
    "ai-proxy": _AI_PROXY,
    "file-log": _FILE_LOG,
    "pre-function": _FUNCTION,
    "post-function": _FUNCTION,
}

PRIORITIES: Final = {
    "correlation-id": 100001,
    "key-auth": 1250,
    "request-size-limiting": 951,
    "cors": 2000,
    "acl": 950,
    "ai-proxy": 770,
    "file-log": 9,
    "pre-function": 1000000,
    "post-function": -1000,
}
