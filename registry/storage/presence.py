"""Presence of files in the store, which is asked before a transaction, never within one."""

from collections.abc import Collection
from functools import partial

from registry.sources.disks.store_threads import STEPS
from registry.storage.store import ArtifactStore, storage_errors


async def stored_of(store: ArtifactStore, digests: Collection[str]) -> set[str]:
    """Those whose files are in the store. Raises StoreUnavailable, if it does not answer either."""
    with storage_errors("the store can't be read"):
        return await STEPS.run(partial(_stored_of, store, digests))


def _stored_of(store: ArtifactStore, digests: Collection[str]) -> set[str]:
    return set(filter(store.has, digests))
