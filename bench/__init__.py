"""What a key costs: this package beside loops written by hand, on real Kafka and PostgreSQL. `python -m bench`."""
