"""MCP servers: their connections, sessions and tools."""
