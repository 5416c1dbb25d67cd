"""What is measured: activations, the reaction to a string, its directions and its causal effect."""
