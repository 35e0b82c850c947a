local typedefs = require "kong.db.schema.typedefs"

return {
  name = "tenantgate-mcp",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {port = {
        description = "As `port` of tenantgate-failover.",
        type = "integer", between = {1, 65535}, default = 8199,
      }},
      {egress_allow = {
        description = "As `egress_allow` of tenantgate-failover.",
        type = "set", elements = {type = "string", len_max = 300},
      }},
      {correlation_header = {
        description = "Header with the request's id.",
        type = "string", match = "^[%w_-]+$", len_max = 100, default = "X-Request-ID",
      }},
    }}},
  },
}
