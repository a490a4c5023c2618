"""WebSocket sessions of vLLM's `/v1/realtime`: speech is transcribed with the adapter they name."""
