"""Request bodies that two parsers may read differently, for the tests of the one reading."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

SECRET: Final = "AKIA" + "B0DYCANARY2XYZ34"
MAIL: Final = "body.canary@example.com"


def said(content: str = '"hi"', more: str = "", role: str = '"user"') -> bytes:
    """A chat request whose content is this piece of JSON, with `more` after it."""
    text = f'{{"messages":[{{"role":{role},"content":{content}}}]{more}}}'
    return text.encode("utf-8", "surrogatepass")


REFUSED: Final[dict[str, tuple[bytes, int, str]]] = {
    # name: body, status, code
    "empty": (b"", 400, "invalid_json"),
    "no end": (b'{"messages":[{"role":"user","content":"hi"}]', 400, "invalid_json"),
    "more behind": (said() + b"{}", 400, "invalid_json"),
    "NUL behind": (said() + b"\0", 400, "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + said(), 400, "invalid_json"),
    "UTF-16": (said().decode().encode("utf-16"), 400, "invalid_encoding"),
    "UTF-32": (said().decode().encode("utf-32-be"), 400, "invalid_json"),
    "Latin-1": (said('"é"').decode().encode("latin-1"), 400, "invalid_encoding"),
    "overlong": (said().replace(b"hi", b"\xc1\xa8i"), 400, "invalid_encoding"),
    "surrogate in UTF-8": (said('"\ud800"'), 400, "invalid_encoding"),
    "beyond Unicode": (said().replace(b"hi", b"\xf4\x90\x80\x80"), 400, "invalid_encoding"),
    "half a pair": (said('"\\ud800"'), 400, "invalid_json"),
    "the other half": (said('"\\udc00 \\ud800"'), 400, "invalid_json"),
    "half a pair in a name": (said(more=',"\\uDbFf":1'), 400, "invalid_json"),
    "raw line end": (said('"a\nb"'), 400, "invalid_json"),
    "raw tab": (said('"a\tb"'), 400, "invalid_json"),
    "raw NUL": (said('"a\0b"'), 400, "invalid_json"),
    "odd escape": (said('"\\x41"'), 400, "invalid_json"),
    "odd unicode escape": (said('"\\u00g0"'), 400, "invalid_json"),
    "single quotes": (said("'hi'"), 400, "invalid_json"),
    "comment": (said(more="/* hi */"), 400, "invalid_json"),
    "trailing comma": (said(more=","), 400, "invalid_json"),
    "no-break space": (said(more="\u00a0"), 400, "invalid_json"),
    "form feed": (said(more="\f"), 400, "invalid_json"),
    "True": (said(more=',"store":True'), 400, "invalid_json"),
    "two messages": (said(more=',"messages":[{"role":"user","content":"two"}]'), 400, "invalid_json"),
    "two contents": (said('"hi","content":"two"'), 400, "invalid_json"),
    "a name and its escape": (said(more=',"a":1,"\\u0061":2'), 400, "invalid_json"),
    "members of the same name far within": (said(more=',"x":[{"y":{"a":1,"a":1}}]'), 400, "invalid_json"),
    "hexadecimal": (said(more=',"seed":0x10'), 400, "invalid_json"),
    "plus": (said(more=',"seed":+1'), 400, "invalid_json"),
    "leading zero": (said(more=',"seed":0123'), 400, "invalid_json"),
    "minus zero nine": (said(more=',"seed":-09'), 400, "invalid_json"),
    "no digit before the point": (said(more=',"top_p":.5'), 400, "invalid_json"),
    "no digit behind the point": (said(more=',"top_p":1.'), 400, "invalid_json"),
    "half an exponent": (said(more=',"top_p":1e'), 400, "invalid_json"),
    "other digits": (said(more=',"seed":\u0661'), 400, "invalid_json"),
    "underscore": (said(more=',"seed":1_000'), 400, "invalid_json"),
    "NaN": (said(more=',"top_p":NaN'), 400, "invalid_json"),
    "-NaN": (said(more=',"top_p":-NaN'), 400, "invalid_json"),
    "nan": (said(more=',"top_p":nan'), 400, "invalid_json"),
    "Infinity": (said(more=',"top_p":Infinity'), 400, "invalid_json"),
    "-Infinity": (said(more=',"top_p":-Infinity'), 400, "invalid_json"),
    "1e999": (said(more=',"top_p":1e999'), 400, "invalid_json"),
    "-1e999": (said(more=',"x":[-1e999]'), 400, "invalid_json"),
    "5,000 digits": (said(more=',"seed":' + "1" * 5000), 400, "invalid_json"),
    "5,000 digits behind the point": (said(more=',"top_p":0.' + "1" * 5000), 400, "invalid_json"),
    "65 levels": (said(more=',"x":' + "[" * 64 + "]" * 64), 400, "nested_too_deeply"),
    "1,000 levels": (b"[" * 1000 + b"]" * 1000, 400, "nested_too_deeply"),
    "20,000 levels": (b"[" * 20_000 + b"]" * 20_000, 400, "nested_too_deeply"),
    "500,000 empty lists": (said(more=',"x":[' + "[]," * 499_999 + "[]]"), 413, "request_too_large"),
    "500,000 brackets": (b"[" * 500_000, 413, "request_too_large"),
    "100,000 numbers": (said(more=',"x":[' + "1," * 99_999 + "1]"), 413, "request_too_large"),
    "2,001 messages": (
        b'{"messages":[' + b'{"role":"user","content":"a"},' * 2000 + b'{"role":"user","content":"a"}]}',
        413,
        "request_too_large",
    ),
    "a long name": (said(more=',"' + "x" * 1025 + '":1'), 413, "request_too_large"),
    "a list": (b"[]", 400, "invalid_request"),
    "a number": (b"7", 400, "invalid_request"),
    "no messages": (b'{"prompt":"hi"}', 400, "invalid_request"),
    "messages null": (b'{"messages":null}', 400, "invalid_request"),
    "messages an object": (b'{"messages":{"1":{"role":"user","content":"hi"}}}', 400, "invalid_request"),
    "messages empty": (b'{"messages":[]}', 400, "invalid_request"),
    "a message null": (b'{"messages":[null]}', 400, "invalid_request"),
    "a message a text": (b'{"messages":["hi"]}', 400, "invalid_request"),
}
"""No chat in strict JSON. What lua-cjson takes all the same is among them: numbers of C, raw control characters, bytes
that aren't UTF-8, a thousand levels, the last of two members."""

MISTYPED: Final[dict[str, tuple[bytes, str]]] = {
    # name: body, param
    "no role": (b'{"messages":[{"content":"hi"}]}', "messages[0].role"),
    "role null": (said(role="null"), "messages[0].role"),
    "role a list": (said(role='["user"]'), "messages[0].role"),
    "role empty": (said(role='""'), "messages[0].role"),
    "content a number": (said("7"), "messages[0].content"),
    "content an object": (said('{"type":"text","text":"hi"}'), "messages[0].content"),
    "content a list of texts": (said('["hi"]'), "messages[0].content"),
    "a part's text a number": (said('[{"type":"text","text":7}]'), "messages[0].content[0].text"),
    "a part's type a list": (said('[{"type":["text"]}]'), "messages[0].content[0].type"),
    "name a number": (said('"hi","name":7'), "messages[0].name"),
    "calls an object": (said('null,"tool_calls":{}', role='"assistant"'), "messages[0].tool_calls"),
    "arguments an object": (
        said('null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":{}}}]', role='"assistant"'),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "stream a text": (said(more=',"stream":"false"'), "stream"),
    "stream a number": (said(more=',"stream":0'), "stream"),
    "stream a list": (said(more=',"stream":[]'), "stream"),
    "stream_options a flag": (said(more=',"stream_options":true'), "stream_options"),
    "include_usage a text": (
        said(more=',"stream":true,"stream_options":{"include_usage":"no"}'),
        "stream_options.include_usage",
    ),
    "model a number": (said(more=',"model":7'), "model"),
    "model a list": (said(more=',"model":["mock-small"]'), "model"),
    "n a text": (said(more=',"n":"1"'), "n"),
    "n 1.5": (said(more=',"n":1.5'), "n"),
    "n negative": (said(more=',"n":-1'), "n"),
    "max_tokens a text": (said(more=',"max_tokens":"9"'), "max_tokens"),
    "temperature a text": (said(more=',"temperature":"0.7"'), "temperature"),
    "temperature a flag": (said(more=',"temperature":true'), "temperature"),
    "stop a number": (said(more=',"stop":7'), "stop"),
    "stop a list of numbers": (said(more=',"stop":[7]'), "stop"),
    "tools an object": (said(more=',"tools":{}'), "tools"),
    "tool_choice a number": (said(more=',"tool_choice":1'), "tool_choice"),
}
"""Members of another type than OpenAI's API has them."""

KEPT: Final[dict[str, bytes]] = {
    "plain": said(),
    "other letters": said('"Grüße, 你好, 🏖️\u2028"'),
    "nothing said": said('""'),
    "content null": said(
        'null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]'
    ),
    "parts": said(
        '[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]'
    ),
    "unknown members": said(more=',"reasoning":{"effort":null},"x":[null,true,{}],"y":""'),
    "numbers": said(more=',"temperature":1.0,"top_p":0.95,"seed":7,"x":[-3,0.1,1e-07,4111111111111111,12.5]'),
    "DEL": said('"a\x7fb"'),
    "escapes": said('"\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f"'),
    "64 levels": said(more=',"x":' + "[" * 63 + "]" * 63),
    "50,000 commas in a text": said('"' + "a, [b] {c} " * 20_000 + '"'),
}
"""As SDKs write them: nothing of these is written anew."""

REWRITTEN: Final[dict[str, tuple[bytes, bytes]]] = {
    "blanks": (b'\r\n\t { "messages" : [ { "role" : "user" , "content" : "hi" } ] } \n', said()),
    "escaped letters": (said('"\\u0068\\u0069 \\u00e9 \\ud83c\\udfd6 \\/ \\u007f"'), said('"hi é 🏖 / \x7f"')),
    "escaped names": (b'{"mess\\u0061ges":[{"r\\u006fle":"user","content":"hi"}]}', said()),
    "stream null": (said(more=',"stream":null'), said()),
    "nulls": (
        said(
            '"hi","name":null,"tool_calls":null',
            more=',"n":null,"model":null,"stop":null,"stream_options":null',
        ),
        said(),
    ),
    "null among options": (
        said(more=',"stream_options":{"include_usage":null}'),
        said(more=',"stream_options":{}'),
    ),
    "a card with an exponent": (said(more=',"x":4111111111111111e0'), said(more=',"x":4111111111111111')),
    "a card with a point": (said(more=',"x":4.111111111111111e15'), said(more=',"x":4111111111111111')),
    "a card with noughts": (said(more=',"x":4111111111111111.000'), said(more=',"x":4111111111111111')),
    "finer than a double": (said(more=',"x":9007199254740993'), said(more=',"x":9007199254740992')),
    "finer than Kong writes": (said(more=',"x":0.30000000000000004'), said(more=',"x":0.3')),
    "19 digits": (said(more=',"x":6011000990139424123'), said(more=',"x":6011000990139424000')),
    "the largest of 64 bits": (said(more=',"x":9223372036854775807'), said(more=',"x":9223372036854776000')),
    "as JavaScript spells it": (said(more=',"x":1e21'), said(more=',"x":1e+21')),
    "many digits": (said(more=',"x":0.1000000000000000055511151231257827'), said(more=',"x":0.1')),
    "minus nought": (said(more=',"x":-0'), said(more=',"x":0')),
    "too small": (said(more=',"x":1e-999'), said(more=',"x":0.0')),
}
"""The same document, or what ai-proxy would make of it in any case."""

TYPES: Final[dict[str, bool]] = {
    "application/json": True,
    "Application/JSON": True,
    "application/json; charset=utf-8": True,
    'application/json;charset="UTF-8"': True,
    "application/json ;": True,
    "application/json; version=2": True,
    "application/json; charset=utf-16": False,
    "application/json; charset=latin1": False,
    "application/json; multipart/form-data": False,
    "application/json, application/x-www-form-urlencoded": False,
    "application/json-patch+json": False,
    "application/jsonx": False,
    "application/vnd.api+json": False,
    "application/problem+json": False,
    "text/json": False,
    "text/plain": False,
    "application/x-www-form-urlencoded": False,
    "application/x-www-form-urlencoded; application/json": False,
    "multipart/form-data; boundary=x": False,
    "multipart/form-data; boundary=application/json": False,
    "application/octet-stream": False,
    "*/*": False,
    "json": False,
}
"""Content types, and whether they are read."""

_WORDS: Final = st.sampled_from(
    ["hi", SECRET, MAIL, "é", "", "🏖️", "a\nb", '{"x":"1"}', "\u2028", "\x00", "%40"]
)
_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
_CONTENT: Final = (
    _WORDS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": _WORDS}), max_size=2) | _JSON
)
_MESSAGES: Final = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool"]), "content": _CONTENT},
        optional={"name": _WORDS | _JSON, "tool_call_id": _WORDS, "x": _JSON},
    ),
    min_size=1,
    max_size=3,
)
DOCUMENTS: Final = st.fixed_dictionaries(
    {"messages": _MESSAGES},
    optional={
        "stream": st.sampled_from([True, False, None]),
        "temperature": st.just(1.0) | _JSON,
        "x": _JSON,
        "seed": _JSON,
    },
)
"""Chat requests, most of them good."""

_PIECES: Final = st.sampled_from(
    [
        b"\0",
        b"\n",
        b"\x0b",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b'"',
        b"\\",
        b"\\u0",
        b"\\ud800",
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"null",
        b"NaN",
        b"Infinity",
        b"0x10",
        b"+1",
        b"01",
        b"1e999",
        b"-0",
        b"4111111111111111e0",
        b"//",
        b"/**/",
        b"'",
        b" ",
        b"\t",
        b"\xc2\xa0",
        b',"content":"two"',
        b',"messages":[]',
        b'"role":["user"],',
        b"\\u0063ontent",
        b"true",
        b'"stream":"false",',
        b'"stream":null,',
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A document's bytes, in one of two spellings, with some of them cut out, doubled or put in."""
    document: Any = draw(DOCUMENTS)
    spellings: list[dict[str, Any]] = [{"separators": (",", ":"), "ensure_ascii": False}, {}]
    raw = json.dumps(document, **draw(st.sampled_from(spellings))).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        end = draw(st.integers(at, min(len(raw), at + 8)))
        raw = (
            raw[:at]
            + draw(_PIECES | st.just(raw[at:end] * 2) | st.just(b""))
            + raw[draw(st.sampled_from([at, end])) :]
        )
    return raw
