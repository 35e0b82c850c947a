from __future__ import annotations

from tenantgate.config import scripts


def test_a_condition_asks_for_each_member_on_the_way() -> None:
    text = scripts.where_decided("target.log_payloads", "return 1")
    assert "if d and d.target and d.target.log_payloads then return 1 end" in text
