"""LoRA names: the adapter that vLLM's clients mean by the text under which they load one."""

from dataclasses import dataclass

from registry.auth.caller import Caller
from registry.errors import NameTaken
from registry.names.grammar import reference_or_none
from registry.names.registry_name import registry_name_of
from registry.names.service import NameService
from registry.references import AdapterReference, check_name


@dataclass(frozen=True, slots=True)
class LoraName:
    """`served_name` None: the text is the adapter's own name."""

    text: str
    adapter: str
    served_name: str | None


async def find_lora_name(names: NameService, text: str, caller: Caller) -> LoraName:
    """A served name's adapter, the adapter of that name, or the one that the text is loaded as.

    Raises InvalidReference, InvalidServedName, NameReserved, NameTaken if it is a served name of
    one alias or version, and UnknownAdapter and NotOwner if the caller may not change the adapter.
    """
    served = await names.find(text, caller.tenant)
    if served is not None:
        if served != AdapterReference(served.adapter):
            raise NameTaken(text, str(served))
        found = LoraName(text, served.adapter, text)
    elif reference_or_none(text) is not None:
        found = LoraName(text, check_name(text), None)
    else:
        name = names.check(text)
        found = LoraName(text, registry_name_of(name, caller.tenant), name)
    caller.check_owns(found.adapter)
    return found
