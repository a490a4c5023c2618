"""A request between HTTP and the engine: read its body, resolve, lease, generate, respond."""
