"""Stock vLLM servers as replicas, driven over their routes for LoRA adapters."""
