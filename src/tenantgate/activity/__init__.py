"""``tenantgate top`` and ``report``: what happens on the gateway, by tenant, from audit records."""
