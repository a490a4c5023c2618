"""`python -m adaptry`. Guarded, because vLLM starts processes by spawn, which import this file."""

import sys

from adaptry.cli import main

if __name__ == "__main__":
    # Spawned processes import a main module by its file, or by its name unless that is `__main__`:
    # without it, an engine's process would import vLLM before `adaptry.cli` can prepare for it.
    __spec__ = None
    sys.exit(main())
