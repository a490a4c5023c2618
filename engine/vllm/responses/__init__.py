"""vLLM's `/v1/responses`, where it works on after it has answered."""
