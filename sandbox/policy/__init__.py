"""From a profile to a verified BPF bundle: rules, compiler, simulator, verifier. Runs nothing."""
