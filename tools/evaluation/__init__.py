"""What `tools/evaluate` does: functions trained, served and attacked, and the page about them."""
