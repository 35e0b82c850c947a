-- Nothing is set here: what a vault's schema has, each reference can set (kong/pdk/vault.lua, get_vault_config_and_hash).
return {
  name = "file",
  fields = {
    {config = {type = "record", fields = {}}},
  },
}
