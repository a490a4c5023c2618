"""What all answers of the server have in common."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Keeps fields that it does not know: a newer server may say more."""

    model_config = ConfigDict(extra="allow")
