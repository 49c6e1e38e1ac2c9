"""The profile: its model, its YAML, and the pure operations on it. No system calls."""
