"""1 -> 4 -> 1 workers and a rolling restart while messages flow: nothing is hurt, so nothing may be in doubt either."""
