"""A registry with little memory.

python -m tests.support.servers.low_memory_registry DATABASE FOLDER BYTES
"""

import asyncio
import resource
import sys
from pathlib import Path

from registry.inspection.base_model import BaseModel
from tests.support.servers.registry_in_loop import running_registry


async def main(url: str, folder: Path) -> None:
    """Says its port and serves until its input ends."""
    async with running_registry(
        url, folder, BaseModel("tiny", None), max_adapter_bytes=2**40, max_direct_bytes=0
    ) as registry:
        sys.stdout.write(f"{registry.http.base_url.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
