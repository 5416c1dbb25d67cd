"""What the records say: the table, the charts, the thresholds."""
