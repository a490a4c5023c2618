"""What schemathesis has to be told: how a tar is written. It loads this file by its name."""

import schemathesis
from schemathesis import SerializationContext


@schemathesis.serializer("application/x-tar")
def as_tar(context: SerializationContext, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
