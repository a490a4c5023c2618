"""`python -m adaptry`, in whose processes vLLM knows `tests.support.vllm.reading_llama`.

The process of the engine is spawned: it imports this module before it loads the model.
"""

import sys

from adaptry.cli import main

ARCHITECTURE = "ReadingLlama"
MODULE = "tests.support.vllm.reading_serve"


def register() -> None:
    """The class itself: vLLM starts a process to look at one that it is told the name of."""
    from vllm import ModelRegistry

    from tests.support.vllm.reading_llama import ReadingLlama

    ModelRegistry.register_model(ARCHITECTURE, ReadingLlama)


if __name__ in ("__main__", "__mp_main__"):
    register()
if __name__ == "__main__":
    sys.exit(main())
