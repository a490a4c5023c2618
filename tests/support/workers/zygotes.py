"""Parent of zygotes: imports modules once in a run, when the first zygote is asked for.

Each of xdist's processes has zygotes of its own, which end with it and with its servers.

    python zygotes.py FD PATH MODULE...      PATH is where modules are found

Forks for each that connects at the socket FD, until stdin ends.
"""

import os
import select
import signal
import socket
import sys

from setproctitle import setproctitle

if __name__ == "__main__":
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in `fork_for_each`
    setproctitle(
        "parent of zygotes"
    )  # finds its room beside the environment as it was at the start
    number, path, *modules = sys.argv[1:]
    sys.path[:] = path.split(os.pathsep)

    from tests.support.servers.zygote import import_without_ray
    from tests.support.workers.parent import become, fork_for_each

    os.environ.update({"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"})
    with socket.socket(fileno=int(number)) as listening:
        asked, _, _ = select.select([sys.stdin, listening], [], [])
        if listening in asked:
            import_without_ray(modules)
        signal.signal(signal.SIGINT, interrupt)
        asker = fork_for_each(listening)
    become(asker)
