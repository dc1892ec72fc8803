"""The path of one group and of one delivery: decode, key, claim, run, settle. Read `pipeline` first."""
