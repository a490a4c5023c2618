"""Errors of changes that conflict with the current state."""

from collections.abc import Sequence

from registry.errors.base import RegistryError


class VersionNotServable(RegistryError):
    status = 409
    code = "version_not_servable"

    def __init__(self, reference: str, state: str) -> None:
        super().__init__(f"{reference} is {state}: no alias may point at it")


class TransitionRefused(RegistryError):
    status = 409
    code = "transition_refused"

    def __init__(self, reference: str, state: str, wanted: str) -> None:
        super().__init__(f"{reference} is {state}: from there it can't become {wanted}")


class VersionAliased(RegistryError):
    status = 409
    code = "version_aliased"

    def __init__(self, reference: str, aliases: Sequence[str]) -> None:
        names = ", ".join(aliases)
        super().__init__(f"{reference} is still where {names} points: move or delete that first")


class VersionInUse(RegistryError):
    status = 409
    code = "version_in_use"

    def __init__(self, reference: str) -> None:
        super().__init__(f"requests still hold, await or load {reference}: try again later")


class FilesMissing(RegistryError):
    status = 409
    code = "files_missing"

    def __init__(self, reference: str) -> None:
        super().__init__(f"the files of {reference} are not in the store: register them again")


class FilesDamaged(RegistryError):
    status = 409
    code = "files_damaged"

    def __init__(self, reference: str, what: str) -> None:
        super().__init__(f"the files of {reference} are not what was registered: {what}")


class AliasMoved(RegistryError):
    status = 409
    code = "alias_moved"

    def __init__(
        self, reference: str, expected: int | None, found: int | None, what: str = "version"
    ) -> None:
        super().__init__(f"{reference} is at {what} {found}, not {expected}: read it again first")


class NothingToRollBack(RegistryError):
    status = 409
    code = "nothing_to_roll_back"

    def __init__(self, reference: str) -> None:
        super().__init__(f"{reference} has never been anywhere else")


class LineageCycle(RegistryError):
    status = 409
    code = "lineage_cycle"

    def __init__(self, reference: str, parent: str) -> None:
        super().__init__(f"{parent} descends from {reference}: it can't be its parent too")


class MetadataTooLarge(RegistryError):
    status = 413
    code = "metadata_too_large"

    def __init__(self, what: str) -> None:
        super().__init__(f"there would be {what}")


class NameReserved(RegistryError):
    status = 409
    code = "name_reserved"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is the base model's name")


class NameTaken(RegistryError):
    status = 409
    code = "name_taken"

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name!r} is a name of {holder} already")


class TooManyNames(RegistryError):
    status = 409
    code = "too_many_names"

    def __init__(self, adapter: str, limit: int) -> None:
        super().__init__(f"adapter {adapter!r} has {limit} served names: it can't have more")


class TooManyAliases(RegistryError):
    status = 409
    code = "too_many_aliases"

    def __init__(self, adapter: str, limit: int) -> None:
        super().__init__(
            f"adapter {adapter!r} can't have more than {limit} aliases (ADAPTRY_MAX_ALIASES)"
        )


class TooManyWebhooks(RegistryError):
    status = 409
    code = "too_many_webhooks"

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit} webhooks: remove one first")


class PromptSetExists(RegistryError):
    status = 409
    code = "prompt_set_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a set of prompts {name!r} already")


class TooManyPromptSets(RegistryError):
    status = 409
    code = "too_many_prompt_sets"

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit} sets of prompts: delete one first")


class ImportConflict(RegistryError):
    status = 409
    code = "import_conflict"

    def __init__(self, conflicts: Sequence[str]) -> None:
        shown = "; ".join(conflicts[:5])
        more = f"; and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        super().__init__(f"nothing was imported: {shown}{more}")


class JobFinished(RegistryError):
    status = 409
    code = "job_finished"

    def __init__(self, number: int, state: str) -> None:
        super().__init__(f"job {number} is {state} already")


class ServerRunning(RegistryError):
    status = 409
    code = "server_running"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is this server: only one that has ended can be forgotten")


class OtherBaseModel(RegistryError):
    """`bound`: what the version was checked against; None: nothing is known of that."""

    status = 409
    code = "other_base_model"

    def __init__(self, reference: str, bound: str | None, served: str) -> None:
        if bound is None:
            why = "is bound to no base model yet: `adaptry adapter recheck` says whether it fits"
        else:
            why = f"belongs to the base model {bound}"
        super().__init__(f"{reference} {why}; this server serves {served}")
