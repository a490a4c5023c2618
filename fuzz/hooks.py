"""Hooks for schemathesis, loaded by file name: how a tar is serialised."""

import schemathesis
from schemathesis import SerializationContext


@schemathesis.serializer("application/x-tar")
def as_tar(context: SerializationContext, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
