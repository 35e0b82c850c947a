"""The Platform API as an OpenAPI 3.1 document: docs/platform-api.json, which `make docs` writes.

Limits and budgets come from the classes that tenants.yaml is read by, so that both have the same fields and bounds.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tenantgate.config.json_schema import class_schema
from tenantgate.limit_config import Budget, TokenLimit
from tenantgate.platform.core.intake import CERTAINTIES, CORRECTION, TOKENS, USAGE, WATERMARK

__all__ = ["BATCH_MAX", "BODY_MAX", "PAGE_DEFAULT", "PAGE_MAX", "document"]

BATCH_MAX: Final = 10_000
"""Events of one batch."""
BODY_MAX: Final = 16 << 20
"""Bytes of one batch, unpacked."""
PAGE_MAX: Final = 1000
PAGE_DEFAULT: Final = 100

_TENANT: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_AMOUNT: Final = r"^-?[0-9]{1,24}(\.[0-9]{1,24})?$"
_DAY: Final = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
_BATCH_TYPE: Final = "application/cloudevents-batch+json"
_DEFINITIONS: Final = "#/$defs/"
_SCHEMAS: Final = "#/components/schemas/"

Json = dict[str, Any]


def document() -> Json:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenantgate Platform API",
            "version": "1.0.0",
            "description": "What Tenantgate asks of the platform that keeps tenants' limits and takes their usage. "
            "`tenantgate platform-mock` serves it. Both sides pass over members of bodies that they don't know.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [
            {
                "name": "tenants",
                "description": "Tenants with their limits and budgets, which the gateway mirrors.",
            },
            {"name": "usage", "description": "Usage events, and the ledger that they make."},
        ],
        "paths": {
            "/v1/tenants": {"get": _list_tenants()},
            "/v1/tenants/{tenant}": {"get": _get_tenant()},
            "/v1/usage/events": {"post": _post_events()},
            "/v1/usage/ledger": {"get": _get_ledger()},
            "/v1/usage/corrections": {"get": _get_corrections()},
            "/v1/usage/sources": {"get": _get_sources()},
        },
        "webhooks": {"tenantsChanged": {"post": _webhook()}},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "One token a gateway."}
            },
            "headers": {
                "ETag": {
                    "description": "Strong; of the whole list, whatever the page.",
                    "required": True,
                    "schema": {"type": "string", "pattern": '^"[!#-~]{1,198}"$'},
                }
            },
            "responses": {name: _problem(text) for name, text in _PROBLEMS.items()},
            "schemas": _schemas(),
        },
    }


_PROBLEMS: Final = {
    "BadRequest": "A parameter or the body can't be read, or isn't known; `detail` names it.",
    "Unauthorized": "The token is missing, or not known.",
    "NotFound": "There is no such tenant.",
    "Changed": "The cursor is none of this list's, or the list has changed since: begin anew, without one.",
    "TooLarge": f"More than {BATCH_MAX} events, or {BODY_MAX >> 20} MiB.",
    "UnsupportedMediaType": f"The body isn't {_BATCH_TYPE}.",
    "Unavailable": "Try again later, after `Retry-After` seconds.",
}


def _problem(text: str) -> Json:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
    }


def _failures(*names: str) -> Json:
    statuses = {
        "BadRequest": "400",
        "Unauthorized": "401",
        "NotFound": "404",
        "Changed": "409",
        "TooLarge": "413",
        "UnsupportedMediaType": "415",
        "Unavailable": "503",
    }
    wanted = (*names, "Unauthorized", "Unavailable")
    return {
        statuses[n]: {"$ref": f"#/components/responses/{n}"} for n in sorted(wanted, key=statuses.__getitem__)
    }


def _query(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


_LIMIT: Final = _query(
    "limit",
    "Entries of a page.",
    {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT},
)
_CURSOR: Final = _query(
    "cursor",
    "`next_cursor` of the page before; a text without a meaning of its own.",
    {"type": "string", "minLength": 1, "maxLength": 1000, "pattern": "^[A-Za-z0-9_-]+$"},
)
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETag of an answer before: 304 if it is still the same.",
    "schema": {"type": "string"},
}


def _page(name: str, text: str, *more: str) -> Json:
    """The answer with a page of `name`; `more` members are required beside ``data``."""
    extra: Json = {"version": {"$ref": f"{_SCHEMAS}Version"}} if "version" in more else {}
    return {
        "description": text,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": [*more, "data", "next_cursor"],
                    "properties": {
                        **extra,
                        "data": {
                            "type": "array",
                            "maxItems": PAGE_MAX,
                            "items": {"$ref": f"{_SCHEMAS}{name}"},
                        },
                        "next_cursor": {
                            "type": ["string", "null"],
                            "maxLength": 1000,
                            "description": "Of the next page; null on the last one.",
                        },
                    },
                }
            }
        },
    }


def _list_tenants() -> Json:
    etag = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}}
    return {
        "operationId": "listTenants",
        "tags": ["tenants"],
        "summary": "All tenants, by rising id",
        "description": "`version` is the list's: it grows with every change, and never goes back. A page of another "
        "version than the one before is of another list; a cursor of an earlier version gets 409.",
        "parameters": [_LIMIT, _CURSOR, _IF_NONE_MATCH],
        "responses": {
            "200": _page("Tenant", "A page.", "version") | etag,
            "304": {"description": "The list is the one with this ETag."} | etag,
            **_failures("BadRequest", "Changed"),
        },
    }


def _get_tenant() -> Json:
    etag = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}}
    return {
        "operationId": "getTenant",
        "tags": ["tenants"],
        "summary": "One tenant",
        "parameters": [
            {"name": "tenant", "in": "path", "required": True, "schema": {"$ref": f"{_SCHEMAS}TenantId"}},
            _IF_NONE_MATCH,
        ],
        "responses": {
            "200": {
                "description": "The tenant.",
                "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Tenant"}}},
            }
            | etag,
            "304": {"description": "It is as it was with this ETag."} | etag,
            **_failures("BadRequest", "NotFound"),
        },
    }


def _post_events() -> Json:
    return {
        "operationId": "postUsageEvents",
        "tags": ["usage"],
        "summary": "Take a batch of events, each once",
        "description": "At least once is how the gateway sends, so an event is told apart by `source` and `id`, and "
        "counts once. The answer comes when all that is accepted is durable. Each event is judged by itself: a batch "
        "with one that can't be read is taken without it. Events of a type that the platform doesn't know are "
        "ignored. A batch that is sent again is the same bytes, packed with gzip or not.",
        "requestBody": {
            "required": True,
            "content": {
                _BATCH_TYPE: {
                    "schema": {
                        "type": "array",
                        "description": f"At most {BATCH_MAX} events; each should be an `Event`.",
                        "items": {},
                    },
                    "example": [_EXAMPLE, _EXAMPLE_WATERMARK],
                }
            },
        },
        "responses": {
            "202": {
                "description": "Taken; durable now.",
                "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Taken"}}},
            },
            **_failures("BadRequest", "TooLarge", "UnsupportedMediaType"),
        },
    }


def _get_ledger() -> Json:
    return {
        "operationId": "getLedger",
        "tags": ["usage"],
        "summary": "Sums by tenant, day (UTC), provider and model",
        "parameters": [
            _query("tenant", "Only this tenant's.", {"$ref": f"{_SCHEMAS}TenantId"}),
            _query("model", "Only this model's.", {"type": "string", "minLength": 1, "maxLength": 512}),
            _query("from", "First day.", {"$ref": f"{_SCHEMAS}Day"}),
            _query("to", "Last day.", {"$ref": f"{_SCHEMAS}Day"}),
            _LIMIT,
            _CURSOR,
        ],
        "responses": {
            "200": _page("LedgerRow", "A page, by these, rising."),
            **_failures("BadRequest", "Changed"),
        },
    }


def _get_corrections() -> Json:
    return {
        "operationId": "listCorrections",
        "tags": ["usage"],
        "summary": "Corrections, as they came",
        "description": f"Events of the type {CORRECTION}: they are in the ledger's sums, and nothing that was counted "
        "is ever changed.",
        "parameters": [
            _query("tenant", "Only this tenant's.", {"$ref": f"{_SCHEMAS}TenantId"}),
            _LIMIT,
            _CURSOR,
        ],
        "responses": {"200": _page("Event", "A page."), **_failures("BadRequest", "Changed")},
    }


def _get_sources() -> Json:
    return {
        "operationId": "listSources",
        "tags": ["usage"],
        "summary": "What has come of each node's chain of a tenant, and what is missing",
        "parameters": [_LIMIT, _CURSOR],
        "responses": {
            "200": _page("Source", "A page, by source and tenant."),
            **_failures("BadRequest", "Changed"),
        },
    }


def _webhook() -> Json:
    def header(name: str, text: str) -> Json:
        return {
            "name": name,
            "in": "header",
            "required": True,
            "description": text,
            "schema": {"type": "string", "maxLength": 2000},
        }

    return {
        "operationId": "tenantsChanged",
        "tags": ["tenants"],
        "summary": "Says that the list of tenants has changed",
        "description": "To `POST /webhook` of the mirror (`gateway.platform.listen`), signed as Standard Webhooks has "
        "it. A message that is signed and new has the mirror pull, at most once a second. Nothing else of it is used.",
        "security": [],
        "parameters": [
            header("webhook-id", "Of the message; the same when it is sent again."),
            header("webhook-timestamp", "Unix seconds; 300 from the receiver's at most."),
            header("webhook-signature", "`v1,` and the HMAC-SHA256 of `id.timestamp.body` in Base64."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["type", "timestamp"],
                        "properties": {
                            "type": {"const": "tenants.changed"},
                            "timestamp": {"type": "string", "format": "date-time"},
                            "data": {
                                "type": "object",
                                "properties": {"version": {"$ref": f"{_SCHEMAS}Version"}},
                            },
                        },
                    }
                }
            },
        },
        "responses": {
            "204": {"description": "Taken, or taken before."},
            "401": {"description": "Not signed, not rightly, or too old."},
        },
    }


def _schemas() -> Json:
    definitions: Json = {}
    limits = {
        "TokenLimit": class_schema(TokenLimit, definitions),
        "Budget": class_schema(Budget, definitions),
    }
    of_limits = json.loads(json.dumps(limits | definitions).replace(_DEFINITIONS, _SCHEMAS))
    count = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    money: Json = {
        "type": "object",
        "required": ["currency", "exact"],
        "properties": {"currency": {"$ref": f"{_SCHEMAS}Currency"}, "exact": {"$ref": f"{_SCHEMAS}Amount"}},
    }
    text = {"type": "string", "maxLength": 512}
    return {
        "TenantId": {"type": "string", "pattern": _TENANT},
        "Version": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
        "Day": {"type": "string", "pattern": _DAY, "format": "date", "description": "In UTC."},
        "Currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217."},
        "Amount": {
            "type": "string",
            "pattern": _AMOUNT,
            "description": "A decimal number with all its digits, such as 0.0001234.",
        },
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "required": ["type", "title", "status"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string"},
            },
        },
        "Tenant": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"$ref": f"{_SCHEMAS}TenantId"},
                "enabled": {
                    "type": "boolean",
                    "default": True,
                    "description": "False: all requests are refused with 403.",
                },
                "keys": {
                    "type": "array",
                    "maxItems": 1000,
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 200}},
                    },
                    "description": "Names of the tenant's keys; never the keys.",
                },
                "token_limits": {
                    "type": ["array", "null"],
                    "maxItems": 100,
                    "items": {"$ref": f"{_SCHEMAS}TokenLimit"},
                    "description": "In place of those in tenants.yaml. Left out or null: those hold.",
                },
                "budgets": {
                    "type": ["array", "null"],
                    "maxItems": 100,
                    "items": {"$ref": f"{_SCHEMAS}Budget"},
                    "description": "In place of those in tenants.yaml. Left out or null: those hold.",
                },
            },
        },
        **dict(sorted(of_limits.items())),
        "Event": _event(text, count),
        "Taken": {
            "type": "object",
            "required": ["accepted", "duplicates", "ignored", "rejected", "results"],
            "properties": {
                **dict.fromkeys(("accepted", "duplicates", "ignored", "rejected"), count),
                "results": {
                    "type": "array",
                    "maxItems": BATCH_MAX,
                    "description": "Of each event, in the batch's order.",
                    "items": {
                        "type": "object",
                        "required": ["status"],
                        "properties": {
                            "status": {"enum": ["accepted", "duplicate", "ignored", "rejected"]},
                            "source": text,
                            "id": text,
                            "detail": {"type": "string", "description": "Why it was rejected."},
                        },
                    },
                },
            },
        },
        "LedgerRow": {
            "type": "object",
            "required": [
                "tenant",
                "day",
                "provider",
                "model",
                "requests",
                "cached",
                "tries",
                "uncertain",
                "unpriced",
                "corrections",
                "usage",
                "costs",
                "by_certainty",
            ],
            "properties": {
                "tenant": text,
                "day": {"$ref": f"{_SCHEMAS}Day"},
                "provider": text,
                "model": text,
                "requests": count,
                "cached": {**count, "description": "Requests that the gateway's cache answered."},
                "tries": {**count, "description": "At providers."},
                "uncertain": {**count, "description": "Tries that a provider may bill, and nobody knows."},
                "unpriced": {**count, "description": "Events with tokens whose cost isn't known."},
                "corrections": count,
                "usage": {
                    "type": "object",
                    "description": "Tokens by kind; a kind of which nothing was told is missing.",
                    "properties": {name: {"type": "integer"} for name in TOKENS},
                },
                "costs": {
                    "type": "array",
                    "items": money,
                    "description": "By currency, corrections included.",
                },
                "by_certainty": {
                    "type": "array",
                    "items": {
                        **money,
                        "required": ["currency", "certainty", "exact"],
                        "properties": {**money["properties"], "certainty": {"enum": list(CERTAINTIES)}},
                    },
                },
            },
        },
        "Source": {
            "type": "object",
            "required": ["source", "tenant", "first", "watermark", "highest", "gaps"],
            "properties": {
                "source": text,
                "tenant": text,
                "first": {**count, "description": "The lowest number that has come."},
                "watermark": {**count, "description": "All from `first` to this one have come."},
                "highest": {**count, "description": "The highest number that has come."},
                "gaps": {
                    "type": "array",
                    "description": "Numbers in between that haven't come, both ends included.",
                    "items": {
                        "type": "object",
                        "required": ["from", "to"],
                        "properties": {"from": count, "to": count},
                    },
                },
            },
        },
    }


def _event(text: Json, count: Json) -> Json:
    signed = {"type": "integer", "minimum": 1 - 2**53, "maximum": 2**53 - 1}
    return {
        "type": "object",
        "description": "A CloudEvent 1.0 in JSON. "
        f"`{USAGE}`: what one try of one request used. `{CORRECTION}`: amounts to be added, which may be negative. "
        f"`{WATERMARK}`: all events of the numbers `from` to `to` of the node's chain of this tenant were sent. "
        "What isn't known is left out, and is never zero.",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**text, "minLength": 1, "description": "With `source` unique: request and try."},
            "source": {**text, "minLength": 1, "description": "The node: /tenantgate/nodes/NAME."},
            "type": {"type": "string", "minLength": 1, "maxLength": 512},
            "subject": {**text, "description": "The tenant's id."},
            "time": {"type": "string", "format": "date-time"},
            "node": text,
            "sequence": {"type": "string", "description": "Number in the node's chain of this tenant."},
            "data": {
                "type": "object",
                "properties": {
                    "request": text,
                    "attempt": {**count, "description": "Number of the try; 0: no provider was asked."},
                    "final": {"type": "boolean", "description": "Whether it stands for the request."},
                    "cached": {"type": "boolean"},
                    "status": {"enum": ["success", "error"]},
                    "outcome": text,
                    "key": {**text, "description": "Kong's id of the client's key."},
                    "provider": text,
                    "model": text,
                    "response_model": text,
                    "end_user": text,
                    "certainty": {"enum": list(CERTAINTIES)},
                    "reason": text,
                    "usage": {"type": "object", "properties": dict.fromkeys(TOKENS, signed)},
                    "cost": {
                        "type": "object",
                        "required": ["exact", "currency"],
                        "properties": {
                            "exact": {"$ref": f"{_SCHEMAS}Amount"},
                            "currency": {"$ref": f"{_SCHEMAS}Currency"},
                            "source": text,
                            "book": text,
                        },
                    },
                    "from": count,
                    "to": count,
                    "prev": {**text, "description": "Hash of the chain before these numbers."},
                    "hash": {**text, "description": "Hash of the chain after these numbers."},
                },
            },
        },
    }


_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_EXAMPLE: Final[Json] = {
    "specversion": "1.0",
    "id": "ad80deb0e26f43e4971f4634d39633e1:1",
    "source": "/tenantgate/nodes/gateway-1",
    "type": USAGE,
    "subject": "acme",
    "time": "2026-11-29T16:10:01.000Z",
    "datacontenttype": "application/json",
    "node": "gateway-1",
    "sequence": "00000000000000000001",
    "data": {
        "request": "ad80deb0e26f43e4971f4634d39633e1",
        "attempt": 1,
        "final": True,
        "cached": False,
        "status": "success",
        "outcome": "answered",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "certainty": "exact",
        "usage": {"input_tokens": 120, "output_tokens": 42},
        "cost": {"exact": "0.0000432", "currency": "USD"},
    },
}
_EXAMPLE_WATERMARK: Final[Json] = {
    "specversion": "1.0",
    "id": _HASH,
    "source": "/tenantgate/nodes/gateway-1",
    "type": WATERMARK,
    "subject": "acme",
    "data": {
        "from": 1,
        "to": 1,
        "prev": "",
        "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
}
