"""Run handlers at most once per key, for messages, webhooks and HTTP requests, on the store you already have."""
