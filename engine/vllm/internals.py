"""vLLM internals that we rely on, in one list, and a check that this vLLM has them all.

Present in 0.26.0 to 0.33.0; used on the real engine: 0.26.0 on CUDA and the CPU, 0.32.0 on the CPU.
What moved between these versions is found by `engine.vllm.compat`. Contract tests check what each
one does.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import CodeType
from typing import Any

_DETOKENIZER = ("stream", "tokenizer", "skip_special_tokens")
_LAYERS = ("set_lora", "reset_lora", "lora_a_stacked", "lora_b_stacked")

# module, class (None: the module itself), names. A name may be a method, a class attribute, or an
# attribute that a method of the class sets or reads.
INTERNALS: Sequence[tuple[str, str | None, Sequence[str]]] = (
    # engine_client: its methods, which are wrapped in leases
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM",
        ("from_vllm_config", "generate", "encode", "abort", "collective_rpc", "errored"),
    ),
    # engine_client: what is sent to the engine, and the salt of its prefix cache
    ("vllm.v1.engine.async_llm", "AsyncLLM", ("engine_core",)),
    ("vllm.v1.engine.core_client", "AsyncMPClient", ("add_request_async",)),
    ("vllm.v1.engine", "EngineCoreRequest", ("cache_salt",)),
    # ends: how the engine ended a request, and the vector of one that pools
    ("vllm.v1.engine", "FinishReason", ("ABORT", "ERROR")),
    ("vllm.v1.engine", "EngineCoreOutput", ("finish_reason", "pooling_output")),
    ("vllm.v1.engine.async_llm", "AsyncLLM", ("pause_generation",)),
    # running_requests: tokens and times of a generation's outputs
    ("vllm.outputs", "RequestOutput", ("prompt_token_ids", "outputs", "metrics")),
    ("vllm.v1.metrics.stats", "RequestStateStats", ("arrival_time", "first_token_latency")),
    ("vllm.sampling_params", "RequestOutputKind", ("DELTA",)),
    # token_costs: what is built for each token, and the variables that are looked up for it
    ("vllm.entrypoints.openai.completion.protocol", None, ("CompletionStreamResponse",)),
    ("vllm.entrypoints.openai.chat_completion.protocol", None, ("ChatCompletionStreamResponse",)),
    ("vllm.envs", None, ("enable_envs_cache", "disable_envs_cache")),
    # process: the end of an engine
    ("vllm.v1.engine.async_llm", "AsyncLLM", ("output_processor", "shutdown", "dead_error")),
    ("vllm.v1.engine.output_processor", "OutputProcessor", ("propagate_error",)),
    ("vllm.v1.engine.exceptions", None, ("EngineDeadError", "EngineGenerateError")),
    # worker.lora_managers: where vLLM creates its LoRA managers, and the parts that we replace
    ("vllm.v1.worker.lora_model_runner_mixin", None, ("LRUCacheWorkerLoRAManager",)),
    (
        "vllm.v1.worker.lora_model_runner_mixin",
        "LoRAModelRunnerMixin",
        ("lora_manager", "remove_lora"),
    ),
    (
        "vllm.lora.worker_manager",
        "LRUCacheWorkerLoRAManager",
        ("_manager_cls", "_adapter_manager", "add_adapter", "list_adapters", "_load_adapter"),
    ),
    (
        "vllm.lora.worker_manager",
        "LRUCacheWorkerLoRAManager",
        ("_lora_model_cls", "device"),
    ),
    (
        "vllm.lora.model_manager",
        "LRUCacheLoRAModelManager",
        (
            "_registered_adapters",
            "_active_adapters",
            "lora_index_to_id",
            "capacity",
            "modules",
            "packed_modules",
            "model",
            "activate_adapter",
            "deactivate_adapter",
            "_create_merged_loras_inplace",
            "_get_lora_layer_weights",
        ),
    ),
    ("vllm.utils.cache", "LRUCache", ("order", "cache", "remove_oldest", "touch")),
    # activated_lora: masks of tokens in both runners, keys of blocks, and the mark that travels
    ("vllm.v1.worker.gpu_input_batch", "InputBatch", ("make_lora_inputs", "req_ids")),
    ("vllm.v1.worker.gpu_input_batch", "InputBatch", ("num_computed_tokens_cpu",)),
    ("vllm.v1.worker.gpu_input_batch", "CachedRequestState", ("lora_request",)),
    ("vllm.v1.worker.gpu.lora_utils", "LoraState", ("make_lora_inputs", "lora_requests")),
    ("vllm.v1.worker.gpu.states", "RequestState", ("num_computed_tokens_np",)),
    ("vllm.v1.core.kv_cache_utils", None, ("generate_block_hash_extra_keys",)),
    ("vllm.v1.core.block_pool", None, ("generate_block_hash_extra_keys",)),
    ("vllm.v1.request", "Request", ("lora_request", "update_block_hashes")),
    ("vllm.v1.engine", "EngineCoreRequest", ("prompt_token_ids", "lora_request")),
    ("vllm.lora.request", "LoRARequest", ("base_model_name",)),
    ("vllm.lora.worker_manager", None, ("PEFTHelper",)),
    ("vllm.v1.engine.output_processor", "RequestState", ("num_cached_tokens", "request_id")),
    # worker.prefix_hashes: hashes of a prompt's blocks
    ("vllm.v1.engine.core", None, ("get_request_block_hasher",)),
    ("vllm.v1.request", "Request", ("block_hashes", "all_token_ids", "num_tokens")),
    ("vllm.v1.request", "Request", ("mm_features", "prompt_embeds")),
    # tokenizing.prompt_tail: text of a generation
    ("vllm.v1.engine.output_processor", "OutputProcessor", ("add_request", "request_states")),
    ("vllm.v1.engine.output_processor", "RequestState", ("detokenizer",)),
    ("vllm.v1.sample.sampler", None, ("batched_count_greater_than",)),
    ("vllm.v1.engine.detokenizer", "FastIncrementalDetokenizer", _DETOKENIZER),
    # worker.layout_tracer: how vLLM reads a file and fills a slot
    ("vllm.lora.lora_model", "LoRAModel", ("from_lora_tensors", "loras", "rank")),
    ("vllm.lora.layers.base_linear", "BaseLinearLayerWithLoRA", _LAYERS),
    # worker.lora_modules: the modules that support LoRA
    (
        "vllm.lora.layers",
        None,
        (
            "FusedMoE3DWithLoRA",
            "FusedMoEWithLoRA",
            "LogitsProcessorWithLoRA",
            "VocabParallelEmbeddingWithLoRA",
        ),
    ),
    ("vllm.lora.layers", "FusedMoEWithLoRA", ("enable_moe_shared_loras",)),
    ("vllm.lora.layers", "LogitsProcessorWithLoRA", ("vocab_size", "hidden_size")),
    (
        "vllm.model_executor.layers.vocab_parallel_embedding",
        "VocabParallelEmbedding",
        ("embedding_dim", "org_vocab_size"),
    ),
    ("vllm.model_executor.layers.linear", "LinearBase", ("input_size", "output_size")),
    (
        "vllm.model_executor.layers.linear",
        "QKVParallelLinear",
        ("total_num_heads", "total_num_kv_heads", "head_size"),
    ),
    ("vllm.lora.peft_helper", None, ("PEFTHelper",)),
    ("vllm.lora.layers", "FusedMoEWithLoRA", ("global_num_experts",)),
    # worker.module_names: vLLM's own rules for the names in an adapter
    ("vllm.lora.utils", None, ("is_base_embedding_weights", "parse_fine_tuned_lora_name")),
    ("vllm.lora.lora_model", "LoRAModel", ("_should_skip_module",)),
    # worker.cpu_patches: rows of logits
    (
        "vllm.lora.punica_wrapper.punica_cpu",
        "PunicaWrapperCPU",
        ("add_lora_logits", "sampler_indices", "token_lora_indices"),
    ),
    # app: the table of adapters that vLLM's routes use
    (
        "vllm.entrypoints.openai.models.serving",
        "OpenAIServingModels",
        ("lora_requests", "base_model_paths", "model_name", "registry"),
    ),
    (
        "vllm.entrypoints.openai.models.serving",
        "OpenAIModelRegistry",
        ("show_available_models",),
    ),
    # metric_patches: the gauge of adapters that run and wait
    ("vllm.v1.engine.async_llm", "AsyncLLM", ("logger_manager",)),
    ("vllm.v1.metrics.loggers", "StatLoggerManager", ("stat_loggers",)),
    ("vllm.v1.metrics.loggers", "PrometheusStatLogger", ("gauge_lora_info",)),
)


def find_missing() -> list[str]:
    """The internals that this vLLM lacks, as dotted names. Imports vLLM."""
    return [
        ".".join(filter(None, (module, owner, name)))
        for module, owner, names in INTERNALS
        for name in names
        if not _has(_lookup(module, owner), name)
    ]


def _lookup(module: str, owner: str | None) -> Any:
    try:
        found = import_module(module)
    except ImportError:
        return None
    return found if owner is None else getattr(found, owner, None)


def _has(owner: Any, name: str) -> bool:
    if owner is None:
        return False
    return hasattr(owner, name) or (isinstance(owner, type) and name in set(_names_used(owner)))


def _names_used(owner: type) -> Iterator[str]:
    """Attributes that the methods of a class (and of its bases) set or read."""
    for cls in owner.__mro__:
        for member in vars(cls).values():
            code = getattr(member, "__code__", None)
            if isinstance(code, CodeType):
                yield from code.co_names
