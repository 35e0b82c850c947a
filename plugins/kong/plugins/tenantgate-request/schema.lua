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
    }}},
  },
}
