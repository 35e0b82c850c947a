"""``tenantgate doctor``: what of this node isn't as Tenantgate needs it, and what to do."""
