"""Decisions as pure functions and tables: no async, no clock, no I/O."""
