"""What a user writes: handlers, key rules, resources, and what they are handed. Every registration error is raised here."""
