"""Control plane: adapters, immutable versions, aliases and their verified files."""
