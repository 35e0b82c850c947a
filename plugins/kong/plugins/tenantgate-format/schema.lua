local typedefs = require "kong.db.schema.typedefs"

return {
  name = "tenantgate-format",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {correlation_header = {
        description = "Header with the request's id.",
        type = "string", match = "^[%w_-]+$", len_max = 100, default = "X-Request-ID",
      }},
      {only_unrouted = {
        description = "Leave requests alone that have found a route.",
        type = "boolean", default = false,
      }},
    }}},
  },
}
