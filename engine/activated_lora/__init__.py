"""Activated LoRA (aLoRA): adapters whose effect begins at their invocation in the prompt.

All before it is the base model's own work, and so are its blocks of the prefix cache. vLLM (0.26 to
0.33) has none of this. `invocation` finds where an effect begins, `marks` carries that to the
engine, `token_masks` and `block_keys` make vLLM heed it, `support` says where they can't.
"""
