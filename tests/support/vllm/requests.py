"""Requests as vLLM's front end hands them to its engine."""

from typing import Any

from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreRequest

SAMPLING: dict[str, Any] = {
    "max_tokens": 8,
    "detokenize": False,
    "output_kind": RequestOutputKind.DELTA,
}


def engine_core_request(
    request_id: str, params: SamplingParams | PoolingParams
) -> EngineCoreRequest:
    kind = "pooling_params" if isinstance(params, PoolingParams) else "sampling_params"
    values: dict[str, Any] = {
        kind: params,
        "request_id": request_id,
        "external_req_id": "chosen",
        "prompt_token_ids": [1, 2, 3],
        "arrival_time": 100.0,
    }
    required = dict.fromkeys(EngineCoreRequest.__struct_fields__)
    return EngineCoreRequest(**{**required, "priority": 0, "client_index": 0, **values})
