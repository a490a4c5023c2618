"""Speech in vLLM's server: what its routes ask the engine besides a transcription."""
