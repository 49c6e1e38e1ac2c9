"""The DNS forwarder: which names the function may ask for, and which address stands for which name."""

DNS_PORT = 53
FOR_GOOD = float("inf")
"""Seconds for which an address stays with its name."""
