"""Redis, several processes, handlers that wait."""
