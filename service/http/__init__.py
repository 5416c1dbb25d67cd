"""HTTP itself: authentication, bodies, problems, ranges, rates. Knows no noun of the API."""
