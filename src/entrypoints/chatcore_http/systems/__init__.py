"""Other systems' own routes, over the same use cases: one module for each system."""
