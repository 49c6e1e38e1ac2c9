"""What people and their tools read when a profile is reviewed: its changes and its findings, in each format."""
