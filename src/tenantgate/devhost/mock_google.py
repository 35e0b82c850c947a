"""Google's token endpoint for service accounts, and a key file that goes with it.

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

__all__ = ["TokenServer"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_ACCOUNT: Final = "gateway@project-1.iam.gserviceaccount.com"


class TokenServer:
    """Gives an access token for a claim that its one account has signed.

    Attributes:
        given: how many tokens it has given.
    """

    def __init__(self, path: str = "/strict/google/token") -> None:
        self.given = 0
        self._path = path
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def add_to(self, app: web.Application) -> None:
        """Serve it."""
        app.router.add_post(self._path, self._token)

    def key_file(self, origin: str) -> str:
        """The account's key file, for a server at `origin`."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "project-1",
                "private_key_id": "k1",
                "private_key": pem.decode(),
                "client_email": _ACCOUNT,
                "token_uri": origin + self._path,
            }
        )

    def token(self) -> str:
        """The token that it gave last."""
        return f"ya29.mock-{self.given}"

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != _GRANT or not self._is_ours(
            str(form.get("assertion")), str(request.url)
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.given += 1
        made = {"access_token": self.token(), "expires_in": 3599, "token_type": "Bearer"}
        return web.json_response(made)

    def _is_ours(self, assertion: str, url: str) -> bool:
        head, _, rest = assertion.partition(".")
        claims, _, signature = rest.partition(".")
        signed = f"{head}.{claims}".encode()
        try:
            self._key.public_key().verify(_raw(signature), signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        told: dict[str, Any] = json.loads(_raw(claims))
        life = told["exp"] - told["iat"]
        named = (told["iss"], told["aud"], told["scope"]) == (_ACCOUNT, url, _SCOPE)
        return named and 0 < life <= 3600 and json.loads(_raw(head))["alg"] == "RS256"


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
