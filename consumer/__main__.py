"""`python -m consumer`: the same as the `consumer` command."""

from consumer.cli import main

main()
