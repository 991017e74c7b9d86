"""The writers: a module for each format, with `write(network, described, images) -> bytes`."""
