"""What a process does to itself before the handler's exec: filters, Landlock rules, the one exec, its parent."""
