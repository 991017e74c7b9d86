"""Report versions, devices and missing packages; works where the rest of the package does not."""
