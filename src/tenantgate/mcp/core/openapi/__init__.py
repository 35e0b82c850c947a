"""From an OpenAPI document to tools: references, schemas, operations, names."""
