"""Connects and messages of the function, made by the supervisor on its behalf."""
