"""How often a search finds a planted trigger, with the pair hidden."""
