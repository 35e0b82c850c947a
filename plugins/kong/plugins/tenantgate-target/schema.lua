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
    }}},
  },
}
