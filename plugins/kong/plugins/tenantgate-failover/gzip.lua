-- Bodies packed by gzip.
local zlib = require "ffi-zlib"

local PIECE = 65535

local M = {}

-- A body without its packing, which may hold a thousand times as much; nil where that is more than `most` bytes, or the
-- body isn't whole.
function M.unpacked(body, most)
  local parts, size, at = {}, 0, 1
  local ok = zlib.inflateGzip(function(length)
    local piece = body:sub(at, at + length - 1)
    at = at + length
    return piece ~= "" and piece or nil
  end, function(piece)
    size = size + #piece
    if size > most then
      return nil, "too large"
    end
    parts[#parts + 1] = piece
    return true
  end, PIECE)
  return ok and table.concat(parts) or nil
end

return M
