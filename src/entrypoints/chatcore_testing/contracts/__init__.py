"""The contracts of the ports that an embedding program may have adapters of its own for."""
