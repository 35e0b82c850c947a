"""Ends of requests in Kong's shared memory: each comes again until it is settled, and nothing else is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import luajit21

from support import ROOT

AGAIN_S, KEPT_S = 30, 1500
NGX = """
return function(seconds)
  local now = 1000
  local dict = {entries = {}}
  function dict:get(key)
    local entry = self.entries[key]
    if entry and entry.ends and entry.ends <= now then self.entries[key] = nil return nil end
    return entry and entry.value
  end
  function dict:safe_set(key, value, ttl)
    if dict.full then return nil, "no memory" end
    self.entries[key] = {value = value, ends = ttl and now + ttl}
    return true
  end
  function dict:incr(key, by, initial)
    local value = self:get(key) or initial
    if not value then return nil, "not found" end
    self.entries[key] = {value = value + by}
    return value + by
  end
  function dict:delete(key) self.entries[key] = nil end
  ngx = {shared = {tenantgate_tries = dict}, now = function() return now end}
  return dict, function(more) now = now + more end
end
"""


class Ends:
    """The module in a Lua state of its own, with a clock of the test's."""

    def __init__(self) -> None:
        self.lua = luajit21.LuaRuntime(unpack_returned_tuples=True)
        self.lua.execute(f"package.path = '{ROOT}/plugins/?.lua'")
        self.dict, self.wait = self.lua.execute(NGX)()
        cjson = {"encode": lambda value: json.dumps(plain(value)), "decode": self.decode}
        self.lua.globals().package.loaded["cjson.safe"] = self.lua.table_from(cjson)
        self.module = self.lua.eval("require 'kong.plugins.tenantgate-request.ends'")

    def decode(self, text: str) -> Any:
        return self.table(json.loads(text)) if text else None

    def table(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self.lua.table_from({k: self.table(v) for k, v in value.items()})
        return self.lua.table_from([self.table(v) for v in value]) if isinstance(value, list) else value

    def keep(self, id_: str, what: str = "keep_decided", **more: Any) -> None:
        log = {"request": {"tenant": "t", "id": id_, "credential": "c"}, "decided": what == "keep_decided",
               "state": {"model": "m", "limits": {"at": 1}}}  # fmt: skip
        self.module[what](self.table({**log, **more}))

    def settled(self, *ids: str) -> None:
        self.module.forget(self.table(list(ids)))

    def take(self) -> list[str]:
        found = self.module.take()
        return [] if found is None else [each.request.id for each in found.values()]

    def texts(self) -> list[str]:
        return [entry.value for key, entry in self.dict.entries.items() if key.startswith("end:")]


def plain(value: Any) -> Any:
    if luajit21.lua_type(value) != "table":
        return value
    made = {k: plain(v) for k, v in value.items()}
    return (
        [made[i + 1] for i in range(len(made))]
        if made and set(made) == set(range(1, len(made) + 1))
        else made
    )


@given(st.lists(st.one_of(st.just("keep"), st.integers(0, 40), st.sampled_from([1.0, 31.0])), max_size=60))
def test_each_comes_again_until_it_is_settled(steps: list[Any]) -> None:
    ends, kept, settled, now, given_at = Ends(), dict[str, float](), set[str](), 0.0, dict[str, float]()
    for n, step in enumerate(steps):
        if step == "keep":
            ends.keep(f"q{n}")
            kept[f"q{n}"] = given_at[f"q{n}"] = now
        elif isinstance(step, int):
            ends.settled(f"q{step}")
            settled.add(f"q{step}")
            kept.pop(f"q{step}", None)
        else:
            ends.wait(step)
            now += step
        found = ends.take()
        assert set(found) <= kept.keys()
        assert all(now - given_at[id_] >= AGAIN_S for id_ in found)
        given_at |= dict.fromkeys(found, now)
    ends.wait(AGAIN_S + 1)
    again: list[str] = []
    while found := ends.take():
        assert len(found) <= 20
        again += found
    assert sorted(again) == sorted(kept)


@pytest.mark.parametrize("recalled", ["openai/gpt-4o", None])
def test_what_had_no_decision_comes_at_once(recalled: str | None) -> None:
    ends = Ends()
    ends.keep("q", "keep_undecided", recalled=recalled)
    assert ends.take() == ["q"]
    assert ends.take() == []
    ends.wait(AGAIN_S)
    assert ends.take() == ["q"]
    ends.settled("q")
    ends.wait(AGAIN_S)
    assert ends.take() == []


def test_nothing_is_kept_of_what_was_asked_and_answered() -> None:
    ends = Ends()
    tries = [{"target": "t", "outcome": "ok", "status": 200, "ms": 1, "limits": {"x": "SECRET"}}]
    ends.keep(
        "q", body="SECRET", items="SECRET", shared={"text": "SECRET"}, tries=tries, usage={"input": 3},
        state={"model": "m", "limits": {"at": 1}, "kept": {"text": "SECRET"}, "routing": {"key": "SECRET"}},
    )  # fmt: skip
    (text,) = ends.texts()
    assert "SECRET" not in text
    assert json.loads(text)["usage"] == {"input": 3}


def test_a_request_that_holds_nothing_leaves_nothing() -> None:
    ends = Ends()
    ends.keep("q", state={"model": "m"})
    assert ends.texts() == []


def test_what_has_no_room_is_counted() -> None:
    ends = Ends()
    for n in range(1003):
        ends.keep(f"q{n}", "keep_undecided")
    assert (len(ends.texts()), ends.module.dropped(), ends.module.dropped()) == (1000, 3, None)
    assert len(ends.take()) == 20


def test_a_full_memory_drops_what_it_cannot_take() -> None:
    ends = Ends()
    ends.dict.full = True
    ends.keep("q")
    assert (ends.texts(), ends.module.dropped(), ends.take()) == ([], 1, [])


def test_ends_are_forgotten_before_the_ledger_forgets_that_they_are_settled() -> None:
    ends = Ends()
    ends.keep("q")
    ends.wait(KEPT_S)
    assert ends.take() == []
