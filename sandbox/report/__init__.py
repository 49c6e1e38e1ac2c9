"""What people look at before they approve a profile: one page, and its short form for a pull request.

Nothing here decides anything. Promises, risks, estimates and changes come from the modules that own them.
"""
