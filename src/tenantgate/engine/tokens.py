"""Requests of callers who show an access token: the engine says of which tenant they are, before all else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenantgate.engine.core.tables import PackedRequest
from tenantgate.mcp.core.protocol.errors import INTERNAL_ERROR, INVALID_REQUEST, Failure
from tenantgate.mcp.tokens import RefusedToken, TokenChecker, challenge
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.kong import Host
    from tenantgate.mcp.config import McpOauth

__all__ = ["TokenRequests"]

_JSON: Final = "application/json"
_TEXTS: Final = {401: "A valid access token is required.", 403: "The access token doesn't permit this."}
_UNKNOWN: Final = "The gateway can't check access tokens right now. Please try again."
_RETRY_S: Final = "5"

_tokens: Final = metrics.counter(
    "tenantgate_mcp_tokens_total", "Access tokens of requests to MCP servers.", ("outcome",)
)


class TokenRequests:
    """Gives requests with a token their tenant."""

    def __init__(self, config: McpOauth | None) -> None:
        self._config = config
        self._checker = None if config is None else TokenChecker(config)

    def read(self, host: Host, table: Any) -> PackedRequest | None:
        """The request in a table without a tenant; None where it is of no route for tokens.

        A token that isn't taken is answered.
        """
        if self._config is None or self._checker is None or not isinstance(table, Mapping):
            return None
        if table.get("by_token") is not True:
            return None
        token = table.get("token")
        token = token.decode("utf-8", "replace") if isinstance(token, bytes) else token
        found = self._checker.check(token if isinstance(token, str) else "")
        if isinstance(found, RefusedToken):
            self._refuse(host, self._config, table, found)
        _tokens.inc(outcome="taken")
        return PackedRequest.of(
            {**table, "tenant": str(found.tenant), "credential": found.credential}, scopes=found.scopes
        )

    def _refuse(
        self, host: Host, config: McpOauth, table: Mapping[str, Any], refused: RefusedToken
    ) -> NoReturn:
        status = refused.status
        _tokens.inc(outcome=refused.error or ("unknown_keys" if status == 503 else "missing"))
        code = INTERNAL_ERROR if status == 503 else INVALID_REQUEST
        failure = Failure(status=status, code=code, message=_TEXTS.get(status, _UNKNOWN))
        headers = {"Content-Type": _JSON}
        if status == 503:
            headers["Retry-After"] = _RETRY_S
        else:
            path = table.get("path")
            path = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path or "")
            headers["WWW-Authenticate"] = challenge(config, path, refused)
        host.answer(status, failure.body(), headers)
