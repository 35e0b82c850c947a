"""The services that peers ask in a benchmark, without the packages behind them."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
from typing import Any

import numpy as np
import pytest

from support import ROOT

_FILE = ROOT / "benchmarks" / "peer_services.py"
_spec = importlib.util.spec_from_file_location("tests_peer_services", _FILE)
assert _spec is not None
assert _spec.loader is not None
SERVICES = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = SERVICES
_spec.loader.exec_module(SERVICES)


def ask(body: bytes, path: str = "/analyze", method: str = "POST") -> tuple[int, Any]:
    def answer(asked: Any) -> Any:
        if "refuse" in asked:
            raise SERVICES.RefusedError("No text provided", asked["refuse"])
        if "fail" in asked:
            raise KeyError(asked["fail"])
        return [{"start": 5, "asked": asked["text"]}]

    said: list[str] = []
    environ = {
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    reply = SERVICES.service("/analyze", answer)(environ, lambda status, _headers: said.append(status))
    return int(said[0].split()[0]), json.loads(b"".join(reply))


def test_a_service_answers_json_on_its_path_and_says_that_it_is_up() -> None:
    assert ask(b'{"text": "mail jo@example.com"}') == (200, [{"start": 5, "asked": "mail jo@example.com"}])
    assert ask(b"", "/health", "GET") == (200, {"status": "up"})


@pytest.mark.parametrize(
    ("body", "path", "method", "status"),
    [
        (b"{}", "/elsewhere", "POST", 404),
        (b"", "/analyze", "GET", 405),
        (b"{", "/analyze", "POST", 400),
        (b'{"refuse": "422 Unprocessable Entity"}', "/analyze", "POST", 422),
        (b'{"fail": "secret words"}', "/analyze", "POST", 500),
    ],
)
def test_what_a_service_cannot_answer_has_a_status_and_no_text_of_the_request(
    body: bytes, path: str, method: str, status: int
) -> None:
    got, reply = ask(body, path, method)
    assert got == status
    assert set(reply) == {"error"}
    assert "secret" not in reply["error"]


def test_a_finding_is_shown_without_its_recognizer() -> None:
    found = {"start": 1, "entity_type": "PERSON", "recognition_metadata": {"recognizer_name": "x"}}
    assert SERVICES.finding(found) == {"start": 1, "entity_type": "PERSON"}


def test_embeddings_are_openais_in_both_formats() -> None:
    def embed(text: str) -> Any:
        return np.array([len(text), 0.5], np.float32)

    plain = SERVICES.embeddings({"input": ["a", "bcd"], "model": "m"}, embed)
    assert [(d["index"], d["embedding"]) for d in plain["data"]] == [(0, [1.0, 0.5]), (1, [3.0, 0.5])]
    assert (plain["object"], plain["model"]) == ("list", "m")
    coded = SERVICES.embeddings({"input": "ab", "encoding_format": "base64"}, embed)["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == [2.0, 0.5]


@pytest.mark.parametrize("asked", [None, [], [[1, 2]], 7])
def test_only_texts_are_embedded(asked: Any) -> None:
    with pytest.raises(SERVICES.RefusedError):
        SERVICES.embeddings({"input": asked}, lambda _text: None)
