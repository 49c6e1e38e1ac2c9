"""What CI systems and hooks run: a change's profiles compared with those before it, and where that is told."""
