-- The hop: the one way out for requests that may fail over, or that an egress policy binds. A server of the same nginx
-- on loopback, whose content this is. It takes its order from the plugin `tenantgate-failover`, asks the provider at an
-- address that it has checked, and says how that ended. Where the order lets another target be tried, the status is
-- RETRY, upon which the outer nginx does that; else the reply is the provider's, or an error in OpenAI's shape.
local cjson = require "cjson.safe"
local lrucache = require "resty.lrucache"
local classify = require "kong.plugins.tenantgate-failover.classify"
local egress = require "kong.plugins.tenantgate-failover.egress"
local addresses = require "kong.plugins.tenantgate-failover.addresses"
local order_of = require "kong.plugins.tenantgate-failover.order"
local outgoing = require "kong.plugins.tenantgate-failover.outgoing"
local gzip = require "kong.plugins.tenantgate-failover.gzip"
local reply = require "kong.plugins.tenantgate-failover.reply"
local tries = require "kong.plugins.tenantgate-failover.tries"

local RETRY = 503 -- nginx_proxy_proxy_next_upstream
local RECEIVE = 65536
local MAX_REPLY = 64 * 1024 * 1024 -- of a reply that isn't a stream, unless the order says less; Kong holds it in memory
local TOO_LARGE = "its body is too large"
-- For an order that is `raw`: the reply's status, or the class of failure, under status 200, since Kong logs an error
-- where a reply that it holds back gets another status. No server can set it (outgoing.is_passed).
local OUTCOME = "X-Tenantgate-Outcome"
local IDLE_MS, POOL = 30000, 100
local MAX_POLICIES = 1000
local MAX_INTERIM = 16 -- replies 1xx before the reply

local policies = assert(lrucache.new(MAX_POLICIES)) -- by the lists' text

-- As tenantgate.llm.errors words them: message, type, code.
local ERRORS = {
  [429] = {"Rate limit reached. Try again later.", "requests", "rate_limit_exceeded"},
  [502] = {"The provider could not be reached, or its answer was not valid.", "server_error", "bad_gateway"},
  [503] = {"The provider can not be reached right now. Try again later.", "server_error", "service_unavailable"},
  [504] = {"The provider took too long to answer.", "server_error", "gateway_timeout"},
}
local OTHER = {"The request failed.", "invalid_request_error", "error"}
local ERROR = '{"error":{"message":"%s","type":"%s","param":null,"code":"%s"}}'

local function policies_of(text)
  local made = policies:get(text)
  if not made then
    made = {}
    for i, list in ipairs(cjson.decode(text)) do
      made[i] = egress.policy(list)
    end
    policies:set(text, made)
  end
  return made
end

local function now()
  ngx.update_time()
  return ngx.now()
end

-- Milliseconds until `time`; 1 at least, which a socket takes for no time left.
local function left_ms(time)
  return math.max(1, math.floor((time - now()) * 1000))
end

-- What DNS answers for a host, within `wait_s` seconds: Kong's resolver alone may take a minute.
local function answers_for(host, wait_s)
  local answers, problem = kong.dns.resolve(host, nil, true)
  if answers or not tostring(problem):find("cache only", 1, true) then
    return answers, problem
  end
  local asking = ngx.thread.spawn(kong.dns.resolve, host)
  local waiting = ngx.thread.spawn(ngx.sleep, wait_s)
  local _
  _, answers, problem = ngx.thread.wait(asking, waiting)
  ngx.thread.kill(asking)
  ngx.thread.kill(waiting)
  return answers, problem or "timeout"
end

-- The addresses of a host, as texts and bytes; nil and a problem.
local function resolved(host, bytes, wait_s)
  if bytes then
    return {{text = host, bytes = bytes}}
  end
  local answers, problem = answers_for(host, wait_s)
  if not answers then
    return nil, problem
  end
  local out = {}
  for _, answer in ipairs(answers) do
    local text = answer.address
    local found = text and addresses.parse(text)
    if not found then
      return nil, "an answer without an address" -- a service record: it names another host and port
    end
    out[#out + 1] = {text = text, bytes = found}
  end
  return #out > 0 and out or nil, "no address"
end

-- One try at a provider. Its fields: order; most (bytes of a whole body); host; sock; head, framing, rest (bytes after the head); first (of the body,
-- what was read so far), done (whether that is all); `try`, which is noted.
local Try = {}
Try.__index = Try

-- Ends the try: the class of failure, at the step where it happened.
function Try:fail(step, problem)
  self.try.outcome = self.order.raw and problem == TOO_LARGE and "too_large" or classify.failure(step, problem)
  ngx.log(ngx.WARN, "try at ", self.order.host, " failed: ", step, ": ", problem)
  self:close()
  return nil
end

-- Ends the try: the egress policy doesn't permit its host, or an address of it.
function Try:refuse(what)
  self.try.outcome = "refused"
  ngx.log(ngx.WARN, "try at ", self.order.host, " refused: its ", what, " isn't in egress.allow")
  return nil
end

-- Gives the connection back after a whole reply, else ends it.
function Try:close()
  local sock = self.sock
  self.sock = nil
  if not sock then
    return
  end
  local ms = self.done and reply.kept_ms(self.head, self.framing, IDLE_MS)
  if ms then
    sock:setkeepalive(ms, POOL)
  else
    sock:close()
  end
end

-- A connection to an address of the host that every policy permits. A host none of whose addresses is permitted, or
-- one of whose isn't, is refused: a name that changes between the two has no business there.
function Try:connect()
  local order = self.order
  local host, bytes = egress.host(order.host)
  local lists = policies_of(order.egress)
  if not host or not outgoing.is_path(order.path) or egress.refused_host(lists, order.scheme, host, bytes, order.port) then
    return self:refuse("host")
  end
  self.host, self.try.host = host, host
  local connect_ms = math.min(order.connect_ms, left_ms(order.deadline))
  local found, problem = resolved(host, bytes, connect_ms / 1000)
  if not found then
    return self:fail("resolve", problem)
  end
  if not bytes then
    for _, address in ipairs(found) do
      if egress.refused_address(lists, address.bytes) then
        return self:refuse("address")
      end
    end
  end
  local sock = ngx.socket.tcp()
  self.sock = sock
  local start = math.random(#found)
  local ok
  for i = 1, math.min(#found, 2) do
    local address = found[(start + i - 2) % #found + 1]
    local text = addresses.text(address.text, address.bytes)
    self.try.address = text .. ":" .. order.port
    sock:settimeouts(math.min(order.connect_ms, left_ms(order.deadline)), order.idle_ms, order.idle_ms)
    ok, problem = sock:connect(text, order.port, {
      pool = order.scheme .. "|" .. self.try.address .. "|" .. host, pool_size = POOL,
    })
    if ok then
      break
    end
  end
  if not ok then
    self.sock = nil
    return self:fail("connect", problem)
  end
  if order.scheme == "https" and sock:getreusedtimes() == 0 then
    -- Where the handshake ends without a wait lua-resty-core raises an error upon a certificate that isn't trusted. And
    -- never `false` for the session: with it that certificate would pass.
    local ran, session
    ran, session, problem = pcall(sock.sslhandshake, sock, nil, host, true)
    if not ran or not session then
      return self:fail("tls", ran and problem or "not trusted")
    end
  end
  return true
end

function Try:send(body)
  local order = self.order
  local host = outgoing.host_header(order.scheme, self.host, order.port)
  local head = outgoing.head(order.method, order.path, host, order.headers, ngx.req.get_headers(0), #body)
  self.sock:settimeouts(order.connect_ms, math.min(order.idle_ms, left_ms(order.deadline)), order.idle_ms)
  local ok, problem = self.sock:send({head, body})
  if not ok then
    return self:fail("send", problem)
  end
  return true
end

-- The next bytes, waited for until `time`.
function Try:receive(time)
  self.sock:settimeout(left_ms(time))
  return self.sock:receiveany(RECEIVE)
end

-- The reply's head, waited for until `time`.
function Try:read_head(time)
  local bytes, interim, problem, data, head, rest = "", 0
  while true do
    data, problem = self:receive(time)
    if not data then
      return self:fail("receive", problem)
    end
    bytes = bytes .. data
    repeat
      head, rest = reply.head(bytes)
      if not head and rest then
        return self:fail("receive", rest)
      end
      if head and head.status < 200 then
        interim = interim + 1
        if head.status == 101 or interim > MAX_INTERIM then
          return self:fail("receive", "another protocol, or no end of interim replies")
        end
        bytes = rest
      end
    until not head or head.status >= 200
    if head then
      self.head, self.rest = head, rest
      self.try.status = head.status
      self.try.limits = outgoing.limits(head.headers)
      self.framing, problem = reply.framing(head)
      if not self.framing then
        return self:fail("receive", problem)
      end
      return true
    end
  end
end

-- The next bytes of the body ("" where only its coding came), and whether it ends with them; nil on a failure.
function Try:read(time)
  local data, problem = self.rest, nil
  self.rest = nil
  if not data or data == "" and not (self.framing.kind == "length" and self.framing.left == 0) then
    data, problem = self:receive(time)
    if not data then
      if problem == "closed" and reply.ends_here(self.framing) then
        return "", true
      end
      return self:fail("receive", problem)
    end
  end
  local piece, done
  piece, done, problem = reply.decode(self.framing, data)
  if problem then
    return self:fail("receive", problem)
  end
  return piece, done
end

function Try:read_all(time)
  local parts, size = {}, 0
  if self.framing.kind == "length" and self.framing.left > self.most then
    return self:fail("receive", TOO_LARGE)
  end
  while true do
    local piece, done = self:read(time())
    if not piece then
      return nil
    end
    parts[#parts + 1], size = piece, size + #piece
    if size > self.most then
      return self:fail("receive", TOO_LARGE)
    end
    if done then
      return table.concat(parts)
    end
  end
end

-- Reads the reply as far as the client may not have any of it: a stream to its first bytes, all else to the end.
-- Its class is then in `try.outcome`.
function Try:begin()
  local order, try = self.order, self.try
  local first = math.min(self.started + order.first_byte_ms / 1000, order.deadline)
  if not self:read_head(first) then
    return
  end
  try.ms = math.floor((now() - self.started) * 1000)
  local status = self.head.status
  if order.stream and status == 200 then
    return self:begin_stream(first)
  end
  local body = self:read_all(function()
    return math.min(now() + order.idle_ms / 1000, order.deadline)
  end)
  if not body then
    return
  end
  self.done = true
  self:close()
  local headers = self.head.headers
  if headers["content-encoding"] == "gzip" then
    body = gzip.unpacked(body, self.most)
    headers["content-encoding"] = nil -- ai-proxy packs it again for clients that take it
    if not body then
      return self:fail("receive", order.raw and TOO_LARGE or "its body can't be unpacked")
    end
  end
  if order.json and status >= 200 and status < 300 then
    try.outcome = classify.object(body)
    -- Of a body without a length the end may be missing.
    if not try.outcome or self.framing.kind == "close" and cjson.decode(body) == nil then
      return self:fail("receive", "its body is no JSON object")
    end
  elseif order.raw then
    try.outcome = status < 300 and "ok" or "http_" .. status
  else
    try.outcome, try.class = classify.reply(status, body)
  end
  self.first = body
end

-- Reads a stream up to its first event, before which the client may have none of it.
function Try:begin_stream(time)
  local order, bytes, headers = self.order, "", self.head.headers
  local kind = headers["content-type"]
  while true do
    local piece, done = self:read(time)
    if not piece then
      return
    end
    bytes = bytes .. piece
    local class, more = nil, true
    if not headers["content-encoding"] then
      class, more = classify.first_event(bytes, type(kind) == "string" and kind or "")
    end
    if not class and bytes ~= "" and (headers["content-encoding"] or not order.json) then
      class = "ok"
    end
    if class then
      self.first, self.done, self.try.outcome = bytes, done, class
      return
    elseif done or not more then
      return self:fail("receive", "a stream without an event")
    end
  end
end

-- The body of an error as text, in OpenAI's shape where the provider's isn't JSON, which ai-proxy can't take.
local function error_text(status)
  return ERROR:format(unpack(ERRORS[status] or OTHER))
end

local function is_json(text)
  return cjson.decode(text) ~= nil
end

-- The rest of a stream. What the client has can't be taken back, so a failure is noted, and the outer side ends the
-- stream with an error.
function Try:go_on()
  local order, try = self.order, self.try
  local piece, done = self.first, self.done
  while true do
    if piece ~= "" then
      if not ngx.print(piece) or not ngx.flush(true) then
        return self:close()
      end
    end
    if done then
      self.done = true
      self:close()
      try.ended = true
      return
    end
    piece, done = self:read(math.min(now() + order.idle_ms / 1000, order.deadline))
    if not piece then
      return
    end
  end
end

local function body_of_request()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if body then
    return body
  end
  local name = ngx.req.get_body_file()
  if not name then
    return ""
  end
  local file = assert(io.open(name, "rb"))
  body = file:read("*a")
  file:close()
  return body
end

-- Notes the try, and that the client's side gets this status.
function Try:note(status)
  local try, order = self.try, self.order
  try.reply_status = status
  return tries.note(order.key, order.number, try, math.max(0, order.deadline - self.started))
end

-- Answers with an error of the hop's own.
function Try:answer_error(status)
  self:close()
  self.try.ended = true
  self:note(status)
  local text = error_text(status)
  ngx.status = status
  if self.order.raw then
    ngx.status, ngx.header[OUTCOME] = 200, self.try.outcome
  end
  ngx.header["content-type"] = "application/json; charset=utf-8"
  ngx.header["content-length"] = #text
  ngx.print(text)
end

-- Passes the provider's reply on.
function Try:answer()
  local order, try, status, body = self.order, self.try, self.head.status, self.first
  local stream = order.stream and status == 200
  if not stream and status == 200 then
    status = tonumber(try.outcome:match("^http_(%d+)$")) or try.outcome == "context_length" and 400 or status
  end
  try.ended = not stream
  if not self:note(status) then
    return self:answer_error(502) -- without the note nobody would know the end of the stream
  end
  -- The outer nginx would take RETRY for itself; the plugin restores it.
  ngx.status = status == RETRY and order.more and 502 or status
  for name, value in pairs(self.head.headers) do
    if outgoing.is_passed(name) and (not order.raw or name == "content-type") then
      ngx.header[name] = value
    end
  end
  if order.raw then
    ngx.status, ngx.header[OUTCOME] = 200, "http_" .. status
  end
  if stream then
    self:go_on()
    return self:note(status)
  end
  if status >= 400 and not order.raw and not is_json(body) then
    body = error_text(status)
    ngx.header["content-type"] = "application/json; charset=utf-8"
    ngx.header["content-encoding"] = nil
  end
  ngx.header["content-length"] = #body
  ngx.print(body)
end

-- The whole of it. What happens is noted before anything is sent: without a note nothing was.
function Try:run()
  local order, try = self.order, self.try
  if not self:note(nil) then
    return self:answer_error(502)
  end
  if order.deadline <= self.started then
    try.outcome = "timeout"
  elseif self:connect() and self:send(body_of_request()) then
    self:begin()
  end
  if try.ms == 0 then
    try.ms = math.floor((now() - self.started) * 1000)
  end
  if order.again[try.class or try.outcome] and now() < order.deadline and self:note(nil) then
    self:close()
    ngx.status = RETRY
    ngx.header["content-length"] = 0
    return ngx.send_headers()
  end
  local status = self.first and self.head.status
  if status and not (status >= 300 and status < 400) then -- a redirect is never followed, nor shown to the client
    return self:answer()
  end
  self:answer_error(try.outcome == "timeout" and 504 or 502)
end

local M = {}

-- content_by_lua
function M.serve()
  local order = cjson.decode(ngx.req.get_headers(0)[order_of.HEADER] or "")
  local token = tries.token()
  if type(order) ~= "table" or not token or order.token ~= token then
    return ngx.exit(403)
  end
  local self = setmetatable({
    order = order,
    most = math.min(tonumber(order.most) or MAX_REPLY, MAX_REPLY),
    started = now(),
    try = {outcome = tries.UNKNOWN, status = 0, ms = 0, address = "", host = order.host, limits = {}},
  }, Try)
  local ran, problem = pcall(self.run, self)
  if not ran then
    ngx.log(ngx.ERR, "the hop failed: ", problem)
    self.try.outcome = "reset" -- perhaps it was sent
    if not ngx.headers_sent then
      self:answer_error(502)
    end
  end
end

return M
