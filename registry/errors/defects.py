"""Defects that inspection finds. docs/inspection.md says what to do about each.

A code never changes its meaning: programs match on it.
"""

from enum import StrEnum


class Defect(StrEnum):
    """Code of a defect."""

    # the files
    UNSAFE_FILE = "unsafe_file"
    UNREADABLE_FILE = "unreadable_file"
    UNSAFE_PATH = "unsafe_path"
    ARCHIVE_INVALID = "archive_invalid"
    CONFIG_MISSING = "config_missing"
    CONFIG_INVALID = "config_invalid"
    WEIGHTS_MISSING = "weights_missing"
    PICKLE_WEIGHTS = "pickle_weights"
    WEIGHTS_SHARDED = "weights_sharded"
    LFS_POINTER = "lfs_pointer"
    MLX_ADAPTER = "mlx_adapter"
    DIFFUSION_ADAPTER = "diffusion_adapter"
    WHOLE_MODEL = "whole_model"
    HEADER_INVALID = "header_invalid"
    TENSOR_OUT_OF_BOUNDS = "tensor_out_of_bounds"
    # features in the configuration
    NOT_LORA = "not_lora"
    RANK_INVALID = "rank_invalid"
    RANK_TOO_LARGE = "rank_too_large"
    PATTERN_INVALID = "pattern_invalid"
    RANK_PATTERN_UNSUPPORTED = "rank_pattern_unsupported"
    ALPHA_PATTERN_UNSUPPORTED = "alpha_pattern_unsupported"
    DORA_UNSUPPORTED = "dora_unsupported"
    MODULES_TO_SAVE_UNSUPPORTED = "modules_to_save_unsupported"
    BIAS_UNSUPPORTED = "bias_unsupported"
    TRAINABLE_TOKENS_UNSUPPORTED = "trainable_tokens_unsupported"
    LAYER_REPLICATION_UNSUPPORTED = "layer_replication_unsupported"
    INIT_LORA_WEIGHTS_UNSUPPORTED = "init_lora_weights_unsupported"
    ALORA_UNSUPPORTED = "alora_unsupported"
    INVOCATION_INVALID = "invocation_invalid"
    BDLORA_UNSUPPORTED = "bdlora_unsupported"
    QALORA_UNSUPPORTED = "qalora_unsupported"
    ARROW_UNSUPPORTED = "arrow_unsupported"
    KASA_UNSUPPORTED = "kasa_unsupported"
    MONTECLORA_UNSUPPORTED = "monteclora_unsupported"
    VELORA_UNSUPPORTED = "velora_unsupported"
    # the tensors
    NO_MODULES = "no_modules"
    WRAPPED_NAMES = "wrapped_names"
    EMPTY_TENSOR = "empty_tensor"
    UNKNOWN_TENSOR = "unknown_tensor"
    UNPAIRED_TENSOR = "unpaired_tensor"
    DTYPE_UNSUPPORTED = "dtype_unsupported"
    RANK_MISMATCH = "rank_mismatch"
    NOT_FINITE = "not_finite"
    NO_EFFECT = "no_effect"
    # the tensors compared with this base model and engine
    UNKNOWN_MODULE = "unknown_module"
    MODULE_NOT_SERVED = "module_not_served"
    DUPLICATE_MODULE = "duplicate_module"
    SHAPE_MISMATCH = "shape_mismatch"
    EMBEDDING_UNSUPPORTED = "embedding_unsupported"
    EMBEDDING_SAVED = "embedding_saved"
    BASE_WEIGHTS_CHANGED = "base_weights_changed"
    EXPERTS_UNSUPPORTED = "experts_unsupported"
    # what it was trained with
    NEW_EMBEDDINGS = "new_embeddings"
    TOKENS_BEYOND_VOCABULARY = "tokens_beyond_vocabulary"


class Remark(StrEnum):
    """Code of a remark about an accepted adapter."""

    UNKNOWN_FIELD = "unknown_field"
    NAMES_NORMALISED = "names_normalised"
    BASE_WEIGHTS_REPEATED = "base_weights_repeated"
    BASE_MODEL_DIFFERS = "base_model_differs"
    BASE_MODEL_ASSUMED = "base_model_assumed"
    ENGINE_NOT_ASKED = "engine_not_asked"
    CHAT_TEMPLATE_DIFFERS = "chat_template_differs"
    TOKENIZER_DIFFERS = "tokenizer_differs"
    TOKENS_ADDED = "tokens_added"
    EOS_DIFFERS = "eos_differs"
    SAMPLING_DIFFERS = "sampling_differs"
    TRAINING_UNREAD = "training_unread"
