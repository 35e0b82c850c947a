local typedefs = require "kong.db.schema.typedefs"

return {
  name = "tenantgate-keys",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {key_names = {
        description = "Headers in which clients send keys: those of key-auth.",
        type = "array", required = true, len_min = 1, elements = {type = "string"},
        default = {"apikey"},
      }},
    }}},
  },
}
