"""The prompts that carry the strings: a shipped set, or the user's own. Torch-free."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from backdoor_audit.contract.base import Frozen, clean_text

Slot = Literal["system", "user", "first_user"]

MAX_PROMPTS: Final = 10_000
MAX_PROMPT_CHARS: Final = 20_000


class Message(Frozen):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=MAX_PROMPT_CHARS)]

    @field_validator("content")
    @classmethod
    def _text(cls, value: str) -> str:
        return clean_text(value)


class Carrier(Frozen):
    """A prompt, or a conversation, with one slot for a trigger string."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=64)] | None = None
    slot: Slot = Field(default="user", description="Message that contains the string (messages only).")
    cluster: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Template cluster; a prompt without one forms its own cluster."
    )

    @field_validator("prompt")
    @classmethod
    def _prompt_text(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must not be blank")
        return None if value is None else clean_text(value)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        if self.messages is not None:
            if self.messages[-1].role == "assistant":
                raise ValueError("the last message must not be the assistant's")
            roles = {message.role for message in self.messages}
            if self.slot in ("user", "first_user") and "user" not in roles:
                raise ValueError("slot 'user' needs a user message")
        return self


class CarrierSet(Frozen):
    """A set of prompts that ships with the package."""

    set: Literal["python-sql", "instructions"]


class CarrierPrompts(Frozen):
    """The user's own carriers: strings, or objects with a cluster or messages."""

    prompts: Annotated[tuple[Carrier, ...], Field(min_length=1, max_length=MAX_PROMPTS)]

    @field_validator("prompts", mode="before")
    @classmethod
    def _strings(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple({"prompt": item} if isinstance(item, str) else item for item in value)
        return value
