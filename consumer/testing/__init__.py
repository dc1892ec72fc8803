"""What ships for tests: the contract suite that every store passes (`consumer.testing.contract`)."""
