local typedefs = require "kong.db.schema.typedefs"

local header = {type = "string", match = "^[%w_-]+$", len_max = 100}

return {
  name = "tenantgate-target",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {keep_headers = {
        description = "Headers of the client that reach the provider. All others end at the gateway.",
        type = "set", elements = header, default = {},
      }},
      {origins = {
        description = "Origins whose pages may read replies, as the plugin cors has them, where they are several.",
        type = "array", elements = {type = "string", match = "^[%w:/.*-]+$", len_max = 300},
      }},
      {correlation_header = {
        description = "Header with the request's id.",
        type = "string", match = "^[%w_-]+$", len_max = 100, default = "X-Request-ID",
      }},
      {egress_port = {
        description = "As `port` of tenantgate-failover: tokens of Google are asked for through it, too.",
        type = "integer", between = {1, 65535}, default = 8199,
      }},
      {egress_allow = {
        description = "As `egress_allow` of tenantgate-failover.",
        type = "set", elements = {type = "string", len_max = 300},
      }},
    }}},
  },
}
