"""The product, broken on purpose: every break must fail a test.

A mutant is a row of `*.toml`: which text of which file becomes what, which promise that breaks, and the few tests that
must notice. `python -m tests.mutants [NAME …]` plants them one after the other in copies of the tree, never in the tree
itself, and fails when one of them lives, when its text is not found any more, or when it merely cannot be imported.
"""
