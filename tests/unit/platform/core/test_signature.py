from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.platform.core.signature import TOLERANCE_S, secret_bytes, sign, verified

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000


texts = st.text(st.characters(codec="utf-8"))


def is_right(**changes: object) -> bool:
    message = {"identifier": "msg_1", "timestamp": str(NOW), "body": b"{}", "now": NOW, "secret": SECRET}
    message["signatures"] = sign(SECRET, identifier="msg_1", timestamp=NOW, body=b"{}")
    message |= changes
    return verified(message.pop("secret"), **message)  # type: ignore[arg-type]


def test_the_specifications_own_example() -> None:
    # https://github.com/standard-webhooks/standard-webhooks, libraries/python/tests/test_webhooks.py
    secret = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", where="here")
    made = sign(
        secret, identifier="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_right_as_it_was_signed_and_not_otherwise() -> None:
    assert is_right()
    assert is_right(signatures="v1,AAAA v2,x " + sign(SECRET, identifier="msg_1", timestamp=NOW, body=b"{}"))
    assert is_right(now=NOW + TOLERANCE_S)
    for change in (
        {"identifier": "msg_2"},
        {"identifier": ""},
        {"timestamp": str(NOW + 1)},
        {"body": b"[]"},
        {"secret": SECRET[::-1]},
        {"signatures": ""},
        {"signatures": "v1,"},
        {"now": NOW + TOLERANCE_S + 1},
        {"now": NOW - TOLERANCE_S - 1},
    ):
        assert not is_right(**change)


@given(texts, texts, texts, st.binary())
def test_whatever_comes_is_refused_without_an_exception(
    identifier: str, timestamp: str, signatures: str, body: bytes
) -> None:
    identifier, timestamp, signatures = (
        t.encode("utf-8", "replace").decode() for t in (identifier, timestamp, signatures)
    )
    assert not verified(
        SECRET, identifier=identifier, timestamp=timestamp, signatures=signatures, body=body, now=NOW
    )


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_has_24_to_64_bytes(size: int) -> None:
    text = "whsec_" + base64.b64encode(b"x" * size).decode()
    with pytest.raises(ConfigError, match=r"^here: must be whsec_") as error:
        secret_bytes(text, where="here")
    assert text.removeprefix("whsec_")[:8] not in str(error.value) or not size


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_not base64!", "c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ="])
def test_other_texts_are_no_secret(text: str) -> None:
    with pytest.raises(ConfigError):
        secret_bytes(text, where="here")
