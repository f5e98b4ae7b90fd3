"""The routes, a module per area; each handler turns a request into one call of a use case."""
