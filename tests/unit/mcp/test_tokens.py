"""Access tokens: who is taken for whom, and what is never taken. Real keys, real signatures, a real server of keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.mcp.config import McpOauth
from tenantgate.mcp.key_sets import keys_in
from tenantgate.mcp.tokens import Caller, RefusedToken, TokenChecker, challenge

from support import until

ISSUER, AUDIENCE = "https://login.example.com", "https://ai.example.com/v1/mcp"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kinds: dict[type, Any] = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm}
    kinds |= {ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm}
    kinds |= {ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm}
    kind = next(made for of, made in kinds.items() if isinstance(key, of))
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **more}


KEYS = json.dumps(
    {"keys": [jwk(RSA, "r"), jwk(CURVE, "c"), jwk(EDWARDS, "e"), {"kty": "oct", "k": "AAAA", "kid": "s"}]}
)


def claims(**changes: Any) -> dict[str, Any]:
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "exp": int(time.time()) + 600,
        "scope": "read write",
    }
    return {k: v for k, v in (made | changes).items() if v is not None}


def token(key: Any = RSA, kid: str | None = "r", alg: str = "RS256", head: Any = None, **changes: Any) -> str:
    heads = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key, algorithm=alg, headers={**heads, **(head or {})})


def config(folder: Path, keys: str = KEYS, **changes: Any) -> McpOauth:
    (folder / "keys.json").write_text(keys)
    issuer = {
        "issuer": ISSUER,
        "audience": [AUDIENCE],
        "jwks_file": str(folder / "keys.json"),
        "tenant": "acme",
    }
    issuer = {k: v for k, v in {**issuer, **changes}.items() if v is not None}
    return parse(McpOauth, {"resource": "https://ai.example.com", "issuers": [issuer]})


def checker(config: McpOauth) -> TokenChecker:
    made = TokenChecker(config)
    for _, keys in made._issuers.values():
        until(lambda keys=keys: keys.ready, bool, what="the keys")
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TokenChecker:
    return checker(config(tmp_path_factory.mktemp("keys")))


@pytest.mark.parametrize(
    "made",
    [
        token(),
        token(kid=None),
        token(alg="PS256"),
        token(CURVE, "c", "ES256"),
        token(EDWARDS, "e", "EdDSA"),
        token(aud=["other", AUDIENCE]),
        token(head={"typ": "at+jwt"}),
        token(scope=None, scp=["read", "write"]),
    ],
)
def test_a_token_of_the_issuer_is_taken(plain: TokenChecker, made: str) -> None:
    found = plain.check(made)
    assert isinstance(found, Caller), found
    assert (str(found.tenant), found.scopes) == ("acme", {"read", "write"})
    assert "ann" not in found.credential


def confused() -> str:
    """A token whose shared secret is the issuer's public key."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")  # noqa: E731
    signed = part({"alg": "HS256", "kid": "r"}) + b"." + part(claims())
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    "made",
    [
        jwt.encode(claims(), None, algorithm="none", headers={"kid": "r"}),
        confused(),
        token(OTHER),  # another's key
        token(OTHER, head={"jwk": jwk(OTHER, "r")}),  # … which it brings along, or says where it is
        token(OTHER, head={"jku": "https://evil.example.com/jwks", "x5u": "https://evil.example.com/x"}),
        token(kid="../../keys.json"),
        token(CURVE, "r", "ES256"),  # the key's name, but another kind
        token(alg="RS384"),  # not in the list
        token(head={"crit": ["x"], "x": 1}),
        token(head={"typ": "JOSE"}),
        token(kid="s"),
        token(kid="unknown"),
        token(exp=int(time.time()) - 60),
        token(exp=None),
        token(nbf=int(time.time()) + 600),
        token(iat=int(time.time()) + 600),
        token(aud=None),
        token(aud="https://other.example.com"),
        token(iss="https://evil.example.com"),
        token(iss=None),
        token(sub=None),
        token(sub=""),
        token() + "x",
        "x" * 20_000,
    ],
)
def test_no_other_token_is_taken(plain: TokenChecker, made: str) -> None:
    found = plain.check(made)
    assert isinstance(found, RefusedToken)
    assert (found.status, found.error) == (401, "invalid_token")


@given(
    st.one_of(st.text(max_size=60), st.builds("eyJ{}.{}.{}".format, *[st.text("aZ09_-", max_size=30)] * 3))
)
def test_no_text_breaks_it(plain: TokenChecker, text: str) -> None:
    assert isinstance(plain.check(text), RefusedToken)


def test_the_tenant_is_what_the_issuer_may_speak_for(tmp_path: Path) -> None:
    made = checker(config(tmp_path, tenant=None, tenant_claim="org", tenants=["acme", "globex"]))
    found = made.check(token(org="globex"))
    assert isinstance(found, Caller)
    assert str(found.tenant) == "globex"
    for org in ("other", "", None, ["acme"], 1):
        assert isinstance(made.check(token(org=org)), RefusedToken)


def test_a_missing_scope_is_named(tmp_path: Path) -> None:
    oauth = config(tmp_path, scopes=["read", "mcp"])
    found = checker(oauth).check(token())
    assert isinstance(found, RefusedToken)
    assert found.status == 403
    assert challenge(oauth, "/v1/mcp/api", found) == (
        'Bearer resource_metadata="https://ai.example.com/.well-known/oauth-protected-resource/v1/mcp/api", '
        'error="insufficient_scope", scope="mcp"'
    )


@pytest.mark.parametrize("path", ['/v1/mcp/a", error="x', "/v1/mcp/a\r\nX-Evil: 1", "/v1/mcp/ü\\"])
def test_no_path_changes_the_challenge(tmp_path: Path, path: str) -> None:
    made = challenge(config(tmp_path), path, RefusedToken(error=""))
    assert made.startswith('Bearer resource_metadata="https://ai.example.com/.well-known/')
    assert (made.count('"'), made.isascii(), made.isprintable(), "\\" in made) == (2, True, True, False)


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", '{"keys": 1}', '{"keys": []}', "[" * 5000, json.dumps({"keys": [jwk(WEAK, "w")]}),
            json.dumps({"keys": [jwk(RSA, "r", use="enc")]}), json.dumps({"keys": [jwk(RSA, "r", alg="RSA-OAEP")]})]
)  # fmt: skip
def test_a_set_without_a_key_that_can_be_used_is_an_error(raw: str) -> None:
    with pytest.raises(ConfigError):
        keys_in(raw.encode())


class _Server(http.server.BaseHTTPRequestHandler):
    replies: list[tuple[int, str]]
    asked = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        status, body = kind.replies[min(kind.asked, len(kind.replies)) - 1]
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serving() -> Iterator[tuple[str, type[_Server]]]:
    kind = type("Kind", (_Server,), {"replies": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/jwks", kind
        server.shutdown()


def test_keys_are_fetched_in_the_background_and_outlive_the_issuer(
    tmp_path: Path, serving: tuple[str, type[_Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantgate.mcp.key_sets._APART_S", -1.0)
    url, server = serving
    server.replies = [(200, json.dumps({"keys": [jwk(RSA, "r")]})), (200, KEYS), (302, KEYS), (500, "")]
    made = checker(config(tmp_path, jwks_file=None, jwks_url=url))
    assert isinstance(made.check(token()), Caller)
    assert isinstance(made.check(token(CURVE, "c", "ES256")), RefusedToken)  # and fetches
    until(
        lambda: made.check(token(CURVE, "c", "ES256")),
        lambda found: isinstance(found, Caller),
        what="the new key",
    )
    asked = server.asked
    made.check(token(kid="new"))
    until(lambda: server.asked, lambda now: now > asked, what="a further fetch, which fails")
    assert isinstance(made.check(token()), Caller)


def test_without_keys_the_gateway_says_that_it_does_not_know(
    tmp_path: Path, serving: tuple[str, type[_Server]]
) -> None:
    url, server = serving
    server.replies = [(302, KEYS)]  # no redirection is followed
    made = TokenChecker(config(tmp_path, jwks_file=None, jwks_url=url))
    until(lambda: server.asked, bool, what="the fetch")
    found = made.check(token())
    assert isinstance(found, RefusedToken)
    assert found.status == 503


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_file": None},
        {"jwks_url": "https://login.example.com/jwks"},
        {"tenant": None},
        {"tenant_claim": "org"},
        {"tenants": ["acme"]},
        {"jwks_file": None, "jwks_url": "http://login.example.com/jwks"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"audience": []},
    ],
)
def test_settings_that_would_be_unsafe_are_errors(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, **changes)
