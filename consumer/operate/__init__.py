"""What the command line and a console both call: look at entries, end doubts, redrive, purge, explain a declaration.

Functions over the `Operator` port and over values; nothing here prints, parses arguments or opens a store.
"""
