"""What the installed vLLM knows, where what is right to expect depends on it."""

from vllm.lora.peft_helper import PEFTHelper

KNOWS_PATTERNS = hasattr(PEFTHelper, "get_rank_and_scaling")
"""Ranks and alphas by module."""

UNCHECKED = () if KNOWS_PATTERNS else ("LoftQ", "CorDA", "QALoRA")
"""Kinds whose fields 0.26 does not look at: it serves them as plain adapters."""
