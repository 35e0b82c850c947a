"""The policy directory: what holds for each tenant, in numbered versions, and where they are stored."""
