"""A tenant's keys: only the same tenant, key and place open what was sealed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.store.sealing import TenantSealer
from tenantgate.tenant import TenantId

SECRET = "s" * 32
ACME, GLOBEX = (TenantSealer(SECRET, TenantId(name)) for name in ("acme", "globex"))


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_sealed_opens_for_the_same_tenant_and_key_alone(plain: bytes, key: bytes) -> None:
    sealed = ACME.seal(plain, key=key)
    assert TenantSealer(SECRET, TenantId("acme")).open(sealed, key=key) == plain
    assert GLOBEX.open(sealed, key=key) is None
    assert ACME.open(sealed, key=key + b"x") is None
    assert TenantSealer("t" * 32, TenantId("acme")).open(sealed, key=key) is None


@given(st.binary(max_size=80))
def test_other_bytes_never_open(data: bytes) -> None:
    assert ACME.open(data, key=b"k") is None


@given(st.integers(0, 60), st.integers(1, 255))
def test_one_changed_byte_closes_it(place: int, change: int) -> None:
    sealed = bytearray(ACME.seal(b"an answer of some length", key=b"k"))
    sealed[place % len(sealed)] ^= change
    assert ACME.open(bytes(sealed), key=b"k") is None


def test_the_same_text_is_sealed_differently_each_time() -> None:
    assert ACME.seal(b"x", key=b"k") != ACME.seal(b"x", key=b"k")


def test_names_are_the_tenants_own() -> None:
    assert ACME.name(b"prompt") == TenantSealer(SECRET, TenantId("acme")).name(b"prompt")
    assert len({ACME.name(b"prompt"), GLOBEX.name(b"prompt"), ACME.name(b"prompt2")}) == 3
    assert all(c in "0123456789abcdef" for c in ACME.name(b""))
    assert len(ACME.name(b"")) == 32
