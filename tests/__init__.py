"""The test suite; `make test` runs it against real services."""
