"""Other systems' own routes, a module per system: thin ones, over the use cases of the canonical API."""
