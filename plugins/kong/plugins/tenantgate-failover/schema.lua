local typedefs = require "kong.db.schema.typedefs"

return {
  name = "tenantgate-failover",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {port = {
        description = "Port on loopback of the server through which requests leave (tenantgate-egress.conf).",
        type = "integer", between = {1, 65535}, default = 8199,
      }},
      {egress_allow = {
        description = "Hosts and addresses that requests may go to. Without it there is no egress policy.",
        type = "set", elements = {type = "string", len_max = 300},
      }},
    }}},
  },
}
