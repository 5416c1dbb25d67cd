"""Explaining the behaviour: dictionaries, features, baselines and steered continuations."""
