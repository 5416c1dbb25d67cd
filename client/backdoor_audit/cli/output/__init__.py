"""What the command writes: the report, lists, progress and JSON."""
