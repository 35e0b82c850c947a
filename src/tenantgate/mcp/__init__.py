"""MCP servers from the APIs that a tenant has: tools from OpenAPI documents, and the calls that they become."""
