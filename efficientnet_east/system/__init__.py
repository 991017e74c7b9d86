"""The process and its machine: environment, signals, progress, optional libraries."""
