"""Learning: observe what a function does (on the runtime side) and write it down as a profile (on the build side)."""
