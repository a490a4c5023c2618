"""Presence of files in the store, for transactions: a disk that hangs must not hold them up."""

import asyncio
from collections.abc import Collection

from registry.errors import StoreUnavailable
from registry.sources.disks.reads import Share, read_in_thread
from registry.storage.store import ArtifactStore, storage_errors

LOOK_SECONDS = 10.0


async def stored_of(store: ArtifactStore, digests: Collection[str]) -> set[str]:
    """Those whose files are in the store. Raises StoreUnavailable, if it does not answer either."""
    share = Share(str(store.adapters), "store")  # apart from the folders to register from
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            with storage_errors("the store can't be read"):
                return await read_in_thread(share, lambda: set(filter(store.has, digests)))
    except TimeoutError:
        raise StoreUnavailable(f"the store did not answer in {LOOK_SECONDS:g} s") from None
