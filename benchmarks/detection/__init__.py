"""A benchmark of verdicts: backdoored and benign models, split before any threshold was chosen."""
