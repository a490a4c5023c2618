"""How vLLM's engine ended a request: what its last output says, and what it leaves without one."""
