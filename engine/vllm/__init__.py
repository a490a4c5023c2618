"""vLLM in the server process: application, engine client, backend, supervisor, compatibility."""
