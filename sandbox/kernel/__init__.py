"""Facts about the kernel and thin bindings to it; no policy, no YAML, no printing."""
