"""Data plane: vLLM with a cache controller that decides which adapters are resident where."""
