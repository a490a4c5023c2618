"""Fan-out: one prompt or conversation past several models in one request."""
