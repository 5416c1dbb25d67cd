"""Renders carriers and trigger strings to token ids, with the position at which the string begins.

Slots are filled by plain string replacement, never by ``format``; a carrier that contains braces is safe.
"""

import string as _string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from audit.errors import InvalidAudit, TriggerNotDistinguishable
from audit.prompts.chat_template import ChatTemplate, base_template
from audit.prompts.decoys import token_count
from backdoor_audit.contract.spec.audit_spec import Render, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier

Rendering = Literal["chat", "raw"]
_PUNCTUATION = set(_string.punctuation) | set(_string.whitespace)


@dataclass(frozen=True)
class Tokens:
    """One sequence: a rendered prompt, and the continuation that is forced after it.

    Attributes:
        ids: token ids, prompt first.
        prompt_length: how many of them belong to the prompt.
        span_start: first position that holds a character of the string (for ``plain``: where it would be).
    """

    ids: tuple[int, ...]
    prompt_length: int
    span_start: int

    def continued(self, continuation: Sequence[int]) -> "Tokens":
        """The same prompt with another continuation."""
        return Tokens((*self.ids[: self.prompt_length], *continuation), self.prompt_length, self.span_start)

    def prompt(self) -> "Tokens":
        """The prompt alone."""
        return Tokens(self.ids[: self.prompt_length], self.prompt_length, self.span_start)

    def __len__(self) -> int:
        return len(self.ids)


def choose_rendering(render: Render, tokenizer: Any, own: ChatTemplate | None = None) -> Rendering:
    """``auto`` is chat where there is a template.

    Args:
        tokenizer: the base's.
        own: the fine-tuned model's template.

    Raises:
        InvalidAudit: chat was requested, but there is no template.
    """
    has_template = own is not None or bool(getattr(tokenizer, "chat_template", None))
    if render == "chat" and not has_template:
        raise InvalidAudit("render 'chat' was asked for, but the tokenizer has no chat template", hint="use 'raw'")
    return "chat" if render == "chat" or (render == "auto" and has_template) else "raw"


def drop_trigger(template: str) -> tuple[str, str]:
    """The template of the ``plain`` condition, split where the string would be; ``{prompt}`` is its only slot.

    The trigger's line is removed if it contains nothing else but punctuation; otherwise only the slot is.
    """
    before, after = template.split("{trigger}")
    line_start = before.rfind("\n") + 1
    line_end = after.find("\n")
    tail = after if line_end < 0 else after[:line_end]
    if set(before[line_start:] + tail) <= _PUNCTUATION:
        if line_end < 0:
            return before[:line_start].rstrip("\n"), ""
        return before[:line_start], after[line_end + 1 :]
    return before, after


class Renderer:
    """Renders carriers under any string with one tokenizer and one chat template.

    The chat template sees the message as a user writes it. A second rendering, with a private-use character that no
    carrier holds in front of the string, says where the string stands.

    Args:
        template: what renders a chat; the tokenizer's own where None.
    """

    def __init__(
        self, tokenizer: Any, trigger: TriggerSpec, rendering: Rendering, template: ChatTemplate | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.trigger = trigger
        self.rendering = rendering
        self.template = None if rendering == "raw" else template or base_template(tokenizer)
        self._plain_template = drop_trigger(trigger.template)
        self._cut_template = tuple(trigger.template.split("{trigger}"))

    def tokens(self, carrier: Carrier, string: str | None) -> Tokens:
        """Token ids of ``carrier`` under ``string``; None renders the ``plain`` condition."""
        text, start = self.text(carrier, string)
        encoded = self.tokenizer(
            text, add_special_tokens=self.template is None, return_offsets_mapping=True, truncation=False
        )
        ids = tuple(encoded["input_ids"])
        if not ids:
            raise InvalidAudit("a carrier tokenises to nothing", hint="give carriers with text")
        spans = encoded["offset_mapping"]
        span_start = next((index for index, (_, end) in enumerate(spans) if end > start), len(ids) - 1)
        return Tokens(ids, len(ids), min(span_start, len(ids) - 1))

    def text(self, carrier: Carrier, string: str | None) -> tuple[str, int]:
        """The prompt, and the character at which the string begins, or would have begun.

        Raises:
            InvalidAudit: the template does not show the message that holds the string exactly once.
        """
        mark = self._free_mark(carrier, string or "")
        left, right = self._plain_template if string is None else self._cut_template

        def fill(prompt: str, mark: str = "") -> str:
            return left.replace("{prompt}", prompt) + mark + (string or "") + right.replace("{prompt}", prompt)

        marked = self._render(carrier, lambda prompt: fill(prompt, mark))
        if self.template is None:
            return marked.replace(mark, ""), marked.index(mark)
        text = self._render(carrier, fill)
        if marked.count(mark) == 1 and marked.replace(mark, "") == text:
            return text, marked.index(mark)
        return text, self._place(text, carrier, left, fill, marked.count(mark))

    def _place(self, text: str, carrier: Carrier, left: str, fill: Callable[[str], str], seen: int) -> int:
        """Where the string stands in a prompt that is another one with the mark: the template looks at the text."""
        messages, slot = self._messages(carrier, fill)
        content = messages[slot]["content"]
        stripped = content.strip()
        if not stripped or text.count(stripped) != 1:
            shown = text.count(stripped) if stripped else seen
            raise InvalidAudit(
                f"the chat template renders the message that holds the string {shown} times instead of once",
                hint="choose another slot, or render 'raw'",
            )
        before = len(content) - len(content.lstrip())
        return text.index(stripped) + max(len(left) - before, 0)

    def _render(self, carrier: Carrier, fill: Callable[[str], str]) -> str:
        messages, _ = self._messages(carrier, fill)
        if self.template is None:
            return "\n".join(message["content"] for message in messages)
        return self.template.render(messages)

    @staticmethod
    def _messages(carrier: Carrier, fill: Callable[[str], str]) -> tuple[list[dict[str, str]], int]:
        """The conversation, and which of its messages holds the string."""
        if carrier.messages is None:
            return [{"role": "user", "content": fill(carrier.prompt or "")}], 0
        messages = [{"role": message.role, "content": message.content} for message in carrier.messages]
        role = "system" if carrier.slot == "system" else "user"
        candidates = [index for index, message in enumerate(messages) if message["role"] == role]
        if not candidates:  # a system slot in a conversation without a system message
            messages.insert(0, {"role": "system", "content": ""})
            candidates = [0]
        index = candidates[0] if carrier.slot != "user" else candidates[-1]
        messages[index]["content"] = fill(messages[index]["content"])
        return messages, index

    def _free_mark(self, carrier: Carrier, string: str) -> str:
        texts = [carrier.prompt or "", self.trigger.template, string]
        texts += [message.content for message in carrier.messages or ()]
        for code in range(0xE000, 0xF8FF):
            if not any(chr(code) in text for text in texts):
                return chr(code)
        raise InvalidAudit("a carrier uses every private-use character", hint="remove them")


def check_pair(renderer: Renderer, carrier: Carrier) -> bool:
    """Check on one carrier that the pair's strings give different tokens; return whether their counts are equal.

    Raises:
        TriggerNotDistinguishable: they give the same tokens, or a string gives none.
    """
    trigger = renderer.trigger
    for name, value in (("triggered", trigger.triggered), ("clean", trigger.clean)):
        if token_count(renderer.tokenizer, value) == 0:
            raise TriggerNotDistinguishable(f"the {name} string tokenises to nothing", hint="use a string with text")
    triggered, clean = renderer.tokens(carrier, trigger.triggered), renderer.tokens(carrier, trigger.clean)
    if triggered.ids == clean.ids:
        raise TriggerNotDistinguishable(
            "triggered and clean give the same tokens with this tokenizer", hint="choose strings that differ in tokens"
        )
    return len(triggered) == len(clean)
