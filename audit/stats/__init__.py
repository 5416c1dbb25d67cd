"""Statistics without models: intervals, ranks, effect sizes, metrics of features."""
