"""Learning: observe what a function does (the guard's side) and write it down as a profile (the workshop's side)."""
