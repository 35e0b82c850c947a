"""The command `tenantgate budget`: budgets in force, temporary raises, and proposed limits against past traffic."""
