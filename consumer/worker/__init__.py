"""The long-running side: many deliveries at once, signs of life, and a bounded end. `wiring` puts it together."""
