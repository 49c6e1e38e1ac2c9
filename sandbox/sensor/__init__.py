"""Whose call it is: the Python stack of a thread that waits, read from outside, and the distributions of its files.

It informs, and never allows anything: code in the process can forge every name that is read here (docs/security.md).
"""
