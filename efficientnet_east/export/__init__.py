"""A checkpoint's averaged weights as a file for another runtime, checked to be the same network."""
