"""Amazon's signatures and event streams, from the side of the server.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Final

__all__ = ["message", "signature_problem"]

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>\d{8}/[^/]+/[^/]+/aws4_request), "
    r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_STRING: Final = 7


def signature_problem(
    method: str, path: str, headers: Mapping[str, str], body: bytes, *, key: str, secret: str, region: str
) -> str | None:
    """What is wrong with a request's signature of version 4 for the service ``bedrock``; None: nothing.

    Args:
        method: of the request.
        path: as it came, quoted.
        headers: by name in any case.
        body: as it came.
        key: the id of the access key.
        secret: the secret access key.
        region: the region.
    """
    found = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if found is None:
        return "MissingAuthenticationTokenException"
    names, stamp = found["names"].split(";"), headers.get("X-Amz-Date", "")
    if found["key"] != key or found["scope"] != f"{stamp[:8]}/{region}/bedrock/aws4_request":
        return "UnrecognizedClientException"
    if not {"host", "x-amz-date"} <= {*names}:
        return "IncompleteSignatureException"
    host, _, port = headers.get("Host", "").partition(":")
    # Requests to the usual port have a host without it, and Kong leaves every port out of what it signs.
    hosts = {"host": host if port else headers.get("Host", "")}
    canonical = "\n".join(
        [
            method,
            urllib.parse.quote(path, safe="/-_.~"),  # every service but S3 quotes the quoted path once more
            "",
            *(f"{name}:{hosts.get(name, headers.get(name, '')).strip()}" for name in names),
            "",
            found["names"],
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{found['scope']}\n{digest}"
    signing = b"AWS4" + secret.encode()
    for part in found["scope"].split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    right = hmac.digest(signing, text.encode(), "sha256").hex()
    return None if hmac.compare_digest(right, found["signature"]) else "InvalidSignatureException"


def message(kind: str, payload: bytes, *, failed: bool = False) -> bytes:
    """One message of an event stream."""
    headers = {
        (":exception-type" if failed else ":event-type"): kind,
        ":content-type": "application/json",
        ":message-type": "exception" if failed else "event",
    }
    head = b"".join(
        bytes([len(name)]) + name.encode() + bytes([_STRING]) + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return whole + struct.pack(">I", zlib.crc32(whole))
