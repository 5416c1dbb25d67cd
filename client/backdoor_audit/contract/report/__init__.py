"""The result of an audit: verdict, gates, scores and flagged features."""
