"""Sources of adapters: one small module for each kind."""
