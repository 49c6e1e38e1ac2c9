"""The supervisor: the loop that answers what the filter notifies, and what it decides."""
