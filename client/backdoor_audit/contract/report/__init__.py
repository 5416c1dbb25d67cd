"""What an audit answers: verdict, gates, scores and flagged features."""
