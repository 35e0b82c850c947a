from __future__ import annotations

import json

import pytest
from multidict import CIMultiDict

from tenantgate.devhost.exchange import Exchange, Exited, error_body, multimap


def exchange(**more: object) -> Exchange:
    given: dict[str, object] = {
        "request_id": "r" * 32,
        "method": "POST",
        "uri": "/a?x=1",
        "args": "x=1&y&x=%20z&e=%ff",
        "http_version": "1.1",
        "host": "h",
        "server_port": 80,
        "client_ip": "127.0.0.1",
        "client_port": 1,
        "headers": CIMultiDict(),
        "body": b"12345",
        "body_limit": 4,
    }
    return Exchange(**{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html", "text/html"),
        ("text/html;q=0.9, application/xml", "application/xml"),
        ("text/*", "text/plain"),
        ("image/png", "application/json"),
        ("nonsense", "application/json"),
    ],
)
def test_an_error_has_the_form_that_the_client_accepts(accept: str | None, kind: str) -> None:
    got, body = error_body(accept, "No way", "abc")
    assert got == f"{kind}; charset=utf-8"
    assert "No way" in body
    assert "abc" in body


def test_a_json_error_is_kongs() -> None:
    assert json.loads(error_body(None, "Unauthorized", "abc")[1]) == {
        "message": "Unauthorized",
        "request_id": "abc",
    }


def test_the_query_is_read_as_nginx_reads_it() -> None:
    assert exchange().query() == {"x": ["1", " z"], "y": True, "e": "\udcff"}


def test_a_table_is_answered_as_json_and_a_text_untouched() -> None:
    with pytest.raises(Exited) as left:
        exchange().exit(403, {"a": "b/c"}, {"X": ["1", "2"]})
    assert left.value.answer.body == b'{"a":"b/c"}'
    assert ("Content-Type", "application/json; charset=utf-8") in left.value.answer.headers
    assert [v for n, v in left.value.answer.headers if n == "X"] == ["1", "2"]
    with pytest.raises(Exited) as left:
        exchange().exit(200, "data: x\n\n", {"Content-Type": "text/event-stream"})
    assert left.value.answer.body == b"data: x\n\n"


def test_a_body_above_the_buffer_lies_on_disk_until_a_plugin_sets_another() -> None:
    assert exchange().body_on_disk
    assert not exchange(body_changed=True).body_on_disk
    assert not exchange(body_limit=5).body_on_disk


def test_repeated_names_become_lists() -> None:
    assert multimap([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]) == {"a": ["1", "3", "4"], "b": "2"}
    assert len(multimap([(str(i), "") for i in range(200)], 100)) == 100
