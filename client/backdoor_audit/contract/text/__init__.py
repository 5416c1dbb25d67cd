"""Text that comes from elsewhere, and how numbers are written."""
