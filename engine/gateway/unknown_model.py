"""Unknown models: what the registry refuses of a request's `model`, as OpenAI's clients know it."""

import copy

from registry.errors import (
    InvalidReference,
    RegistryError,
    UnknownAdapter,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionUnavailable,
)


def as_model_error(error: RegistryError, model: str) -> RegistryError:
    """What a client of vLLM's routes gets for this `model`; most errors stay the registry's."""
    match error:
        case InvalidReference() | UnknownAdapter():
            return UnknownModel(model)
        case UnknownAlias() | UnknownVersion():
            return UnknownModel(model, error.detail)
        case VersionUnavailable(status=410):
            gone = copy.copy(error)
            gone.status = 404  # as clients expect of a model that is not there
            return gone
    return error
