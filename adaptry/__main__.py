"""`python -m adaptry`. Guarded, because vLLM starts processes by spawn, which import this file."""

import sys

from adaptry.cli import main

if __name__ == "__main__":
    sys.exit(main())
