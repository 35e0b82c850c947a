"""Topics by examples."""

from __future__ import annotations

from tenantgate.cache.core.testing import HashingEmbedder
from tenantgate.guard.core.topics import Topics


def test_topics_by_example() -> None:
    topics = Topics(("gambling and betting", "casino games"), HashingEmbedder())
    best = max(f.score for f in topics.denied("tell me of casino games"))
    assert best > max((f.score for f in topics.denied("how do I bake bread")), default=0)
    (finding,) = topics.allowed("how do I bake bread")
    assert finding.score > 0.5
    assert topics.allowed("  ") == ()


def test_a_long_text_is_sampled_to_its_end() -> None:
    topics = Topics(("casino",), HashingEmbedder())
    found = topics.denied("word " * 4000 + "casino")
    assert len(found) == 8
    assert found[-1].end == 4000 * 5 + 6
