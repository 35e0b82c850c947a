<<<<<<< HEAD
"""The policy directory: what each tenant may do, as one record a tenant, versioned."""
=======
"""The policy directory: what holds for each tenant, in numbered versions, and where they are stored."""
>>>>>>> store
