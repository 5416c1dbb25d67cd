"""Where the behaviour sits: dictionaries, features, baselines and steered continuations."""
