"""How well dictionaries of several kinds explain a recorded difference."""
