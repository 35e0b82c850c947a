local typedefs = require "kong.db.schema.typedefs"

return {
  name = "tenantgate-request",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {mcp = {
        description = "Whether the routes are MCP endpoints.",
        type = "boolean", default = false,
      }},
      {caller = {
        description = "Whether the gateway itself calls, for the tools of models.",
        type = "boolean", default = false,
      }},
      {token = {
        description = "Whether callers show an access token, which the engine checks, and no key.",
        type = "boolean", default = false,
      }},
    }}},
  },
}
