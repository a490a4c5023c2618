"""Load channel, the worker's end: starts loads on request and reports how they ended.

Remote calls wait for the engine's current step, but a load should begin when its request arrives.
So loads bypass the step loop: requests and results are JSON objects on a Unix socket, one per line.
The server's end is `engine.vllm.load_channel`.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from vllm.exceptions import LoRAAdapterNotFoundError
from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from engine.load_threads import ThreadsStalled
from engine.types import LoadFailure
from engine.worker.host_image import ImageLoRA
from engine.worker.lora_managers import ControlledWorkerManager, Staging, host_bytes
from engine.worker.safetensors_file import Unreadable

_SWITCH_SECONDS = 0.0005
_MAX_ERROR_CHARACTERS = 2000  # vLLM's list all modules of a large model: more than a MB
_KINDS: Sequence[tuple[tuple[type[BaseException], ...], LoadFailure]] = (
    ((ThreadsStalled,), LoadFailure.STALLED),
    ((MemoryError, torch.OutOfMemoryError), LoadFailure.MEMORY),
    ((Unreadable, SafetensorError), LoadFailure.FILES),
    ((FileNotFoundError, NotADirectoryError, LoRAAdapterNotFoundError), LoadFailure.MISSING),
    ((OSError,), LoadFailure.IO),
    ((torch.AcceleratorError,), LoadFailure.DEVICE),
)
_SIGNS = (
    (("out of memory", "can't allocate memory", "cannot allocate memory"), LoadFailure.MEMORY),
    (("can't start new thread",), LoadFailure.THREADS),
    (("cuda", "cublas", "cudnn", "nccl", "device-side", "hip error"), LoadFailure.DEVICE),
)


class LoadListener:
    """A thread that passes loads to the staging area, and reports each result."""

    def __init__(self, path: str, staging: Staging, manager: ControlledWorkerManager) -> None:
        self._staging = staging
        self._manager = manager
        self._sending = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        # How long the step loop's thread may hold the GIL before ours runs.
        sys.setswitchinterval(_SWITCH_SECONDS)
        threading.Thread(target=self._listen, name="adaptry-listen", daemon=True).start()

    def _listen(self) -> None:
        """Until the server closes the channel. If this thread ends otherwise, it closes it too."""
        lines = self._socket.makefile("r", encoding="utf-8")
        with self._socket, lines, contextlib.suppress(ConnectionError):
            for line in lines:
                self._handle(json.loads(line))

    def _handle(self, order: dict[str, Any]) -> None:
        number = order["load"]
        if order["do"] == "discard":
            self._staging.discard(number)
            return
        request = LoRARequest(order["name"], order["id"], order["path"])
        try:
            load = self._staging.start(number, self._manager, request)
        except Exception as error:  # later orders must still be handled
            load = Future()
            load.set_exception(error)
        load.add_done_callback(partial(self._report, number))

    def _report(self, number: int, load: "Future[LoRAModel]") -> None:
        if load.cancelled():  # discarded before it began
            return
        answer: dict[str, Any] = {"load": number}
        if (error := load.exception()) is not None:
            answer |= {
                "error": describe_error(error),
                "failure": classify_failure(error),
            }
        else:
            lora = load.result()
            answer |= {"host_bytes": host_bytes(lora), "certain": isinstance(lora, ImageLoRA)}
        line = json.dumps(answer).encode() + b"\n"
        with (
            self._sending,
            contextlib.suppress(OSError),
        ):  # the channel closed: no load waits for it
            self._socket.sendall(line)


def describe_error(error: BaseException) -> str:
    """Its type and text, shortened: it travels to the server and into responses and logs."""
    text = f"{type(error).__name__}: {error}"
    if len(text) <= _MAX_ERROR_CHARACTERS:
        return text
    return f"{text[:_MAX_ERROR_CHARACTERS]}… ({len(text)} characters)"


def classify_failure(error: BaseException) -> LoadFailure:
    """Which cause a failed load had, for the metric and the next attempt.

    None of them condemns the version: even a file that can't be read as one is only suspected,
    until its digest is compared. Torch reports exhausted host memory, and CUDA most of its errors,
    as a RuntimeError with one of these texts.
    """
    for kinds, failure in _KINDS:
        if isinstance(error, kinds):
            return failure
    text = str(error).lower()
    for signs, failure in _SIGNS:
        if isinstance(error, RuntimeError) and any(sign in text for sign in signs):
            return failure
    return LoadFailure.ADAPTER if isinstance(error, ValueError) else LoadFailure.ENGINE
