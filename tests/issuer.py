"""The authorization server of the tests: its keys, and the tokens that it makes."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

_KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER_KEYS: dict[str, Any] = {
    **json.loads(jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key())),
    "kid": "tests",
}


def access_token(**changes: Any) -> str:
    """A token of the tenant ``tooling``, unless `changes` say otherwise."""
    made = {
        "iss": "https://login.example.com",
        "aud": "https://ai.example.com/v1/mcp",
        "sub": "ann",
        "org": "tooling",
        "exp": int(time.time()) + 600,
    }
    return jwt.encode(made | changes, _KEY, algorithm="ES256", headers={"kid": "tests"})
