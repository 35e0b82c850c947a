-- Who asks, where the gateway asks itself: the tool of a model is a request to the gateway's own chat operation. A random
-- word, good for one request within seconds, stands for the caller in memory that all workers share, so that no client
-- can say who it is, no key goes over a connection, and callers with an access token, who have no key, are known as well.
local cjson = require "cjson.safe"

local DICT, NAME, TAKEN = "tenantgate_tries", "caller:", "caller-taken:"
local LIFE_S = 30

local M = {}

M.HEADER = "X-Mcp-Caller" -- a route of its own takes requests with it, which has no key-auth

-- The word for a caller: {tenant, credential (its id), consumer {id, username, custom_id}}; nil where none can be had.
function M.put(caller)
  local dict = ngx.shared[DICT]
  local resty_random, resty_string = require "resty.random", require "resty.string"
  local bytes = dict and resty_random.bytes(16, true)
  local word = bytes and resty_string.to_hex(bytes)
  return word and dict:safe_add(NAME .. word, cjson.encode(caller), LIFE_S) and word or nil
end

-- The caller that a word stands for, once; nil for any other text.
function M.take(word)
  local dict = ngx.shared[DICT]
  if not dict or type(word) ~= "string" or #word ~= 32 or word:find("%X") then
    return nil
  end
  local text = dict:get(NAME .. word)
  -- To read and to delete are two steps, between which another worker may read it, too; only one can add this.
  if not text or not dict:safe_add(TAKEN .. word, true, LIFE_S) then
    return nil
  end
  dict:delete(NAME .. word)
  return cjson.decode(text)
end

return M
