"""tenantgate apply: tenants.yaml becomes policies of the engines and consumers of Kong, without an interruption."""
