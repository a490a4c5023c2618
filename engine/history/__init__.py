"""History of the cache: what was in memory at any time of the last day, and why it changed."""
