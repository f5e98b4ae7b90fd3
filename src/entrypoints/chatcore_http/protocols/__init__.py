"""Protocols that other clients speak: each an encoder and decoder without I/O, and its routes (docs/protocols.md)."""
