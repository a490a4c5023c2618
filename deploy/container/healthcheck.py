"""Health check: exits 0 if the server here, or the one at `ADAPTRY_SERVER`, responds."""

import os
import sys
import urllib.error
import urllib.request

server = os.environ.get("ADAPTRY_SERVER", "http://127.0.0.1:8000")
try:
    # no proxy from the environment: it would connect to its own 127.0.0.1
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server}/healthz", timeout=4):
        pass
except (OSError, ValueError) as error:  # ValueError: no such URL
    sys.exit(f"{server}/healthz: {error}")
