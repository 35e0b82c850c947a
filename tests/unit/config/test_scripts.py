from __future__ import annotations

from tenantgate.config import scripts


def test_only_headers_names_each_header_once_in_small_letters() -> None:
    text = scripts.only_headers(["X-Org", "x-org", "Accept"], correlation_header="X-Trace")
    assert text.count('["x-org"] = true') == 1
    assert '["accept"] = true' in text
    assert 'h["x-trace"]' in text
    assert "KEEP" not in text
