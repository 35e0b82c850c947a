-- Kong's vault `file`: {vault://file/NAME} is the text of the file NAME in one folder, as Kubernetes and Docker mount secrets
-- and systemd hands over credentials. The folder is kong.conf's `vault_file_prefix`. Unlike the prefix of Kong's own vaults
-- no reference can name another one: tenants' references would read any file that Kong may.
local bit = require "bit"
local ffi = require "ffi"
local lfs = require "lfs"

ffi.cdef [[
  char *realpath(const char *path, char *resolved_path);
  void free(void *ptr);
  int statx(int folder, const char *path, int flags, unsigned int mask, uint8_t *at);
]]

local FOLDER = "/etc/tenantgate/secrets"
local NAME = "^[%w_][%w._-]*$"
local MAX_NAME, MAX_BYTES = 255, 64 * 1024
local TTL_S = 1 -- for Kong's own cache of secrets
local FOREVER = 0
-- statx(2), whose structure is the same on all machines: the mode stands at its 28th byte.
local AT_FDCWD, STATX_MODE, STX_MODE, STICKY = -100, 2, 28, 512

local function folder()
  local conf = kong and kong.configuration
  return conf and conf.vault_file_prefix or os.getenv("KONG_VAULT_FILE_PREFIX") or FOLDER
end

-- The path without links; nil where there is none.
local function real(path)
  local found = ffi.C.realpath(path, nil)
  if found == nil then
    return nil
  end
  local text = ffi.string(found)
  ffi.C.free(found)
  return text
end

-- Whether users other than the owner and the group may write.
local function is_open(at)
  return at.permissions:sub(8, 8) == "w"
end

-- Whether in a folder nobody may replace what others have put there. LuaFileSystem doesn't show that bit; a C library
-- without statx says nothing.
local function is_sticky(path)
  local at = ffi.new("uint8_t[256]")
  local known, failed = pcall(function()
    return ffi.C.statx(AT_FDCWD, path, 0, STATX_MODE, at)
  end)
  return known and failed == 0 and bit.band(ffi.cast("uint16_t *", at + STX_MODE)[0], STICKY) ~= 0
end

-- Whether what a name stands for was put there by the folder's owner or root: a mounted secret of Kubernetes is a folder
-- for all, where others may still add names.
local function is_owners(within, ...)
  for _, at in ipairs({...}) do
    if at.uid ~= within.uid and at.uid ~= 0 then
      return false
    end
  end
  return true
end

local M = {VERSION = "0.2.0"}

function M.init()
end

-- The text of a file, without line ends behind it, nil, and how many seconds Kong may keep it; nil and a problem. Links
-- may stay within the folder: Kubernetes replaces a secret by a link. With a version, `{vault://file/NAME#5}`, Kong keeps
-- what it has read: where a certificate and its key change with the reference, no handshake gets one with the other's.
function M.get(_, resource, version)
  if type(resource) ~= "string" or #resource > MAX_NAME or not resource:find(NAME) then
    return nil, "a name has letters, digits, '.', '_' and '-' only"
  end
  local base = real(folder())
  local within = base and lfs.attributes(base)
  if not within or within.mode ~= "directory" then
    return nil, "there is no folder of secrets"
  end
  local path = real(base .. "/" .. resource)
  if not path then
    return nil, "there is no such file"
  elseif path:sub(1, #base + 1) ~= base .. "/" then
    return nil, "a link leads out of the folder"
  end
  local at, named = lfs.attributes(path), lfs.symlinkattributes(base .. "/" .. resource)
  local beside = lfs.attributes(path:match("^(.*)/"))
  if not at or at.mode ~= "file" or not named or not beside then
    return nil, "is no file"
  elseif is_open(at) or is_open(beside) and not is_sticky(path:match("^(.*)/"))
    or is_open(within) and not (is_sticky(base) and is_owners(within, at, named)) then
    return nil, "every user may write it"
  elseif at.size > MAX_BYTES then
    return nil, "is longer than 64 KB"
  end
  local file = io.open(path, "rb")
  if not file then
    return nil, "may not be read"
  end
  local text = file:read(MAX_BYTES + 1)
  file:close()
  if text and #text > MAX_BYTES then
    return nil, "is longer than 64 KB"
  end
  text = (text or ""):gsub("[\r\n]+$", "")
  if text == "" then
    return nil, "is empty"
  end
  return text, nil, version and FOREVER or TTL_S
end

return M
