"""What `tools/bench` measures: learning, start-up, and single calls under a filter."""
