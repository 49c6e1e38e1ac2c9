"""The language that profiles, policies and reports share: calls, argument classes, destinations, spelling."""
