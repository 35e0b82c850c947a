"""`make demo` shows what it promises."""

from __future__ import annotations

import re

import pytest

from tenantgate import demo

pytestmark = pytest.mark.e2e


@pytest.mark.slow
def test_every_answer_of_the_demo_is_as_announced(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    kong_bin = request.config.getoption("--kong-bin")
    status = demo.main(["--kong-bin", kong_bin] if kong_bin else [])
    out = capsys.readouterr().out
    assert status == 0, out
    assert "similarity 0.9" in out
    assert "Thank [EMAIL_ADDRESS_1] for her help" in out
    sent = [int(count) for count in re.findall(r"the provider counts (\d+) tokens", out)]
    assert len(sent) == 2
    assert sent[1] < sent[0]
    assert re.search(r'"prompt": "Thank \[EMAIL_ADDRESS_\d\] for her help"', out)
    assert "what happened so far, by tenant" in out
    answers = re.findall(r"^  stark .*?  (200, [\w-]+|429 \w+)", out, re.MULTILINE)
    assert list(dict.fromkeys(answers)) == [
        "200, mock-large",
        "200, mock-small",
        "429 budget_exhausted",
        "200, Hit",
    ]
    assert answers[-1] == "200, mock-large"
    assert "stark, day: raised by 0.01 USD" in out
    assert "GET /v1/models: fast, mock-small\n" in out
    assert "injection alert → block" in out
    assert "umbrella: added, 1 model, alias fast" in out
    assert "x-ratelimit-remaining-minute: 0" in out
    assert "retry-after: " in out
    assert "get_weather city=poisoned   The result of this tool was withheld" in out
    assert "get_weather city=Oslo       Rate limit reached: 3 requests per minute for this tool." in out
