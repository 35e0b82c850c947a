"""The policy directory: what each tenant may do, as one record a tenant, in numbered versions."""
