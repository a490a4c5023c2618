"""Stock vLLM servers as replicas: driven over the routes that they have for LoRA adapters."""
