"""HTTP itself: authentication, bodies, problems, ranges, rates. Independent of the API's resources."""
