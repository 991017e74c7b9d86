"""The command line: one small module per command; parse, call, print."""
