"""The DNS forwarder: which names the function may ask for, and which address stands for which name."""

from sandbox.behaviour.destination import DNS_PORT as DNS_PORT

FOR_GOOD = float("inf")
"""Seconds for which an address stays with its name."""
