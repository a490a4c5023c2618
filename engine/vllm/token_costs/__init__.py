"""Token costs: what vLLM does for each token of an answer without need."""
