"""Models of the responses of the routes of health.

Written by `make reference` from docs/openapi.json.
"""

from typing import Any, Literal

from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel


class DatabaseRead(ResponseModel):
    """`problem`: why it does not answer; null if it does. `missing`: migrations."""

    kind: str
    problem: str | None
    schema_revision: str | None
    missing: int | None


JsonValue = TypeAliasType("JsonValue", Any)


class SettingRead(ResponseModel):
    """
    `name`: its variable, or vLLM's option. `value`: in effect, passwords as `[hidden]`.

    `is_default`: null if the default isn't known here.
    """

    part: Literal["registry", "cache", "engine"]
    name: str
    value: JsonValue
    is_default: bool | None
    description: str | None


class StoreRead(ResponseModel):
    """`problem`: why it does not answer. Bytes are null where that can't be told."""

    folder: str
    problem: str | None
    free_bytes: int | None
    total_bytes: int | None


class ServerSettingsRead(ResponseModel):
    items: list[SettingRead]
    database: DatabaseRead
    store: StoreRead
