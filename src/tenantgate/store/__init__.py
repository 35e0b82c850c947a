"""Storage shared by the features: Redis, standalone or as a cluster, and encryption per tenant."""
