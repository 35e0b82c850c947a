"""Pseudonyms of end users."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.tenant import TenantId
from tenantgate.transform.config import TransformConfig
from tenantgate.transform.service import Transformation

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def pseudonym(tenant: TenantId, user: str, key: str = "k" * 32) -> str:
    made = Transformation(TransformConfig(end_user="pseudonym", encryption_key=key))
    return str(made.end_user({"user": "someone"}, tenant, user)["user"])


@given(st.text(max_size=5), st.text(max_size=5))
def test_a_pseudonym_is_one_users_of_one_tenant(one: str, other: str) -> None:
    assert pseudonym(ACME, one) == pseudonym(ACME, one)
    assert (pseudonym(ACME, one) == pseudonym(ACME, other)) == (one == other)
    assert pseudonym(ACME, one) != pseudonym(GLOBEX, one)
    assert pseudonym(ACME, one) != pseudonym(ACME, one, "other key")
    assert len(pseudonym(ACME, one)) == 35


def test_what_the_client_says_stays_or_goes() -> None:
    body = {"user": "jane", "safety_identifier": "j", "model": "m"}
    assert Transformation(TransformConfig()).end_user(body, ACME, "jane") is body
    assert Transformation(TransformConfig(end_user="none")).end_user(body, ACME, "jane") == {"model": "m"}
