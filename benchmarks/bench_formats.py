r"""What reading a provider's stream costs for each chunk, beside Kong's own driver.

    python benchmarks/bench_formats.py --resty /path/to/openresty/bin/resty --kong-lua /path/to/kong \
        --rocks /path/to/share/lua/5.1 [--chunks N]

Both run in Kong's LuaJIT, on the same chunks, one event in each piece: `frame_to_events`, then `from_format` for each
event, as ai-proxy calls them for a stream. The clock is the process' own; the least of ten rounds, since other work on
the machine only adds. `json` is a reply of 2 kB that isn't streamed.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tenantgate.paths import plugins_dir

_PROGRAM: Final = r"""
local chunks = CHUNKS
local shared_ctx, plugin_ctx = {}, {}
kong = {
  ctx = {shared = shared_ctx, plugin = plugin_ctx},
  log = {err = print, warn = print, debug = function() end, info = function() end},
  service = {request = {set_header = function() end}},
  plugin = {get_id = function() return "bench" end},
}
local ok, err = pcall(require, "kong.llm.drivers.shared")
assert(ok, err)
local shared = require "kong.llm.drivers.shared"
local theirs = {events = shared.frame_to_events}
for _, name in ipairs({"openai", "anthropic"}) do
  theirs[name] = require("kong.llm.drivers." .. name).from_format
end
require "kong.plugins.tenantgate-target.drivers"
local cjson = require "cjson.safe"

local piece = {
  openai = 'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",' ..
    '"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" weather"},' ..
    '"logprobs":null,"finish_reason":null}],"usage":null}\n\n',
  anthropic = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,' ..
    '"delta":{"type":"text_delta","text":" weather"}}\n\n',
}
local body = '{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":' ..
  '{"role":"assistant","content":"' .. ("word "):rep(400) .. '"},"finish_reason":"stop"}],"usage":' ..
  '{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":0}}}'

local function least(work)
  local best = math.huge
  for _ = 1, 10 do
    collectgarbage()
    local from = os.clock()
    for _ = 1, chunks do
      work()
    end
    best = math.min(best, os.clock() - from)
  end
  return best / chunks * 1e6
end

for _, name in ipairs({"openai", "anthropic"}) do
  local plain = {name = "m", options = {}}
  local ours = {name = "m", options = {tenantgate = {stream_usage = "asked"}}}
  local driver = require("kong.llm.drivers." .. name)
  local request = {stream = true, messages = {{role = "user", content = "Hi"}}}
  local kongs = least(function()
    for _, event in ipairs(theirs.events(piece[name], "text/event-stream")) do
      theirs[name](event, plain, "stream/llm/v1/chat")
    end
  end)
  assert(driver.to_format(request, ours, "llm/v1/chat"))
  local seen
  local own = least(function()
    for _, event in ipairs(shared.frame_to_events(piece[name], "text/event-stream")) do
      seen = driver.from_format(event, ours, "stream/llm/v1/chat")
    end
  end)
  assert(cjson.decode(seen).choices[1].delta.content == " weather")
  shared_ctx.tenantgate_stream = nil
  print(("stream %-9s kong %6.2f us   tenantgate %6.2f us a chunk"):format(name, kongs, own))
end
local plain = {name = "m", options = {}}
local ours = {name = "m", options = {tenantgate = {stream_usage = "asked"}}}
local driver = require "kong.llm.drivers.openai"
print(("json   %-9s kong %6.2f us   tenantgate %6.2f us a reply"):format("openai",
  least(function() theirs.openai(body, plain, "llm/v1/chat") end),
  least(function() driver.from_format(body, ours, "llm/v1/chat") end)))
"""


def main() -> int:
    """Run both, and print the times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resty", type=Path, required=True)
    parser.add_argument(
        "--kong-lua", type=Path, required=True, help="folder with Kong's Lua (kong/llm below it)"
    )
    parser.add_argument(
        "--rocks", type=Path, required=True, help="folder of Kong's Lua rocks (share/lua/5.1)"
    )
    parser.add_argument("--chunks", type=int, default=50_000)
    args = parser.parse_args()
    path = f"{plugins_dir()}/?.lua;{args.kong_lua}/?.lua;{args.kong_lua}/?/init.lua;{args.rocks}/?.lua;"
    path += f"{args.rocks}/?/init.lua;"
    cpath = f"{args.rocks.parents[2]}/lib/lua/5.1/?.so;"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as program:
        program.write(f"package.path = {path!r} .. package.path\n")
        program.write(f"package.cpath = {cpath!r} .. package.cpath\n")
        program.write(_PROGRAM.replace("CHUNKS", str(args.chunks)))
        program.flush()
        ran = subprocess.run([args.resty, program.name], check=False)
    sys.stdout.write(f"{platform.machine()}, {args.chunks} chunks a round\n")
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main())
