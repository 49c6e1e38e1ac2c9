"""seccomp-bootstrap: learn what a serverless function does, and let the kernel refuse the rest."""

__version__ = "0.1.0"
