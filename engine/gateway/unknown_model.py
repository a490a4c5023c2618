"""Unknown models: what the registry refuses of a request's `model`, as OpenAI's clients know it."""

from registry.errors import (
    InvalidReference,
    RegistryError,
    UnknownAdapter,
    UnknownAlias,
    UnknownModel,
    UnknownVersion,
    VersionUnavailable,
)


class ModelGone(RegistryError):
    """Its version is retired or purged: 404, as clients expect of a model that is not there."""

    status = 404

    def __init__(self, error: VersionUnavailable) -> None:
        super().__init__(error.detail)
        self.code = error.code


def as_model_error(error: RegistryError, model: str) -> RegistryError:
    """What a client of vLLM's routes gets for this `model`; most errors stay the registry's."""
    match error:
        case InvalidReference() | UnknownAdapter():
            return UnknownModel(model)
        case UnknownAlias() | UnknownVersion():
            return UnknownModel(model, error.detail)
        case VersionUnavailable(status=410):
            return ModelGone(error)
    return error
