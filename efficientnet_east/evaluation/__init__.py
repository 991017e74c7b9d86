"""The ICDAR protocol, and running a detector through it."""
