"""Files from anybody, and files that are there as a whole or not at all."""
