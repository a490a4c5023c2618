"""What vLLM lets a request wait for without need, before it asks the engine."""
