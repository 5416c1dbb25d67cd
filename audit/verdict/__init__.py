"""From measured numbers to a verdict: gates, several suspected pairs, statistical power."""
