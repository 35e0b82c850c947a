-- Puts the SHA-256 of a presented key into the key's place, before key-auth (1250) looks for it: so Kong has the hashes of
-- issued keys only, in its database, its files and its caches. A key of another form passes as it is, and key-auth has it
-- as it is. A presented hash is hashed once more, so that who knows what Kong has can do nothing with it.
local sha256_hex = require("kong.tools.sha256").sha256_hex

local ISSUED, STORED = "tg_", "sha256:" -- tenantgate/api_keys.py

local Keys = {PRIORITY = 1251, VERSION = "0.2.0"}

local function is_hashed(value)
  return value:sub(1, #ISSUED) == ISSUED or value:sub(1, #STORED) == STORED
end

-- All of the headers in which key-auth looks, since it goes by the first that is there, whatever it holds.
function Keys:access(conf)
  local headers = kong.request.get_headers()
  for _, name in ipairs(conf.key_names) do
    local value = headers[name]
    if type(value) == "string" and is_hashed(value) then
      kong.service.request.set_header(name, STORED .. sha256_hex(value))
    end
  end
end

return Keys
