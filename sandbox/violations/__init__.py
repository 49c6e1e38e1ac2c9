"""Violations: the event model, how their arguments read, where they go, and how they are read back. Decides nothing."""
