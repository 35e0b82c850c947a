"""`tenantgate apply`: tenants.yaml becomes the tenants' policies and Kong's consumers and keys, without an interruption."""
