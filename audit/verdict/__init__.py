"""From measured numbers to a verdict: gates, several suspected pairs, a description of classes."""
