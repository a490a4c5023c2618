"""Models with weights in files: a base, and a fine-tune of it that was merged into one."""

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.common.workload import Shape, write_base_model


def write_weights(parent: Path, shape: Shape, *, seed: int) -> Path:
    """The base model with random weights, so that there are files to be loaded."""
    folder = write_base_model(parent, shape)
    if not any(folder.glob("*.safetensors*")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        model.to(getattr(torch, shape.dtype)).save_pretrained(folder)
    return folder


def write_merged_model(parent: Path, base: Path, adapter: Path) -> Path:
    """The adapter merged into the weights by PEFT: what a full fine-tune would be served as."""
    folder = parent / f"{base.name}-merged"
    if not any(folder.glob("*.safetensors*")):
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        merged.save_pretrained(folder)
        for name in ("tokenizer_config.json", "chat_template.jinja", "tokenizer.json"):
            shutil.copy(base / name, folder / name)
    return folder
