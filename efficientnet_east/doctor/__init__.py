"""What this machine has, what is missing, and the line that installs it; works where nothing else does."""
