"""Response model: what all models of the server's responses are.

Written by `make reference` from docs/openapi.json.
"""

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """A response of the server. Keeps unknown fields, which a newer server may send."""

    model_config = ConfigDict(extra="allow", defer_build=True)
