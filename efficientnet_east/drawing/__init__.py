"""Pictures of results and charts: NumPy and OpenCV only."""
