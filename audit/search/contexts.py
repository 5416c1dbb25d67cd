"""Where in a prompt a string is tried, and prompts with a string in them, tokenised in bulk.

A word that a fine-tune reacts to behind a label may do nothing as the first token of a message, and a tag may do
nothing behind a label. So strings are tried in several contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from audit.models.pair import ModelPair
from audit.prompts.chat_template import own_template
from audit.prompts.rendering import Renderer, Rendering, Tokens, choose_rendering
from audit.search.sizes import TEMPLATES
from backdoor_audit.contract.spec.audit_spec import Render, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import ContextName

_PROBES: Final = ("probe", "Another one: 7")


@dataclass(frozen=True)
class Slot:
    """One carrier in one context: what stands before and after the string.

    Attributes:
        left, right: text of the prompt around the string; None where a template looks at the message, so that every
            string is rendered by itself.
        plain: the prompt without any string.
    """

    renderer: Renderer
    carrier: Carrier
    left: str | None
    right: str
    plain: Tokens

    @classmethod
    def of(cls, renderer: Renderer, carrier: Carrier) -> "Slot":
        """Render the carrier with two words; where the text around them is the same, strings are put into it."""
        around = []
        for word in _PROBES:
            text, start = renderer.text(carrier, word)
            around.append((text[:start], text[start + len(word) :]))
        plain = renderer.tokens(carrier, None)
        if around[0] != around[1]:
            return cls(renderer, carrier, None, "", plain)
        return cls(renderer, carrier, *around[0], plain)

    def tokens(self, strings: Sequence[str]) -> list[Tokens]:
        """The prompt with each string, as ``Renderer.tokens`` gives it."""
        if self.left is None or not strings:
            return [self.renderer.tokens(self.carrier, string) for string in strings]
        encoded = self.renderer.tokenizer(
            [self.left + string + self.right for string in strings],
            add_special_tokens=self.renderer.template is None,
            return_offsets_mapping=True,
            truncation=False,
        )
        start = len(self.left)
        return [
            _tokens(ids, offsets, start)
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]


def _tokens(ids: Sequence[int], offsets: Sequence[tuple[int, int]], start: int) -> Tokens:
    begin = next((index for index, (_, end) in enumerate(offsets) if end > start), len(ids) - 1)
    return Tokens(tuple(ids), len(ids), min(begin, len(ids) - 1))


class Contexts:
    """Renders carriers in every context; both models read the same prompts.

    The fine-tuned model's own chat template is used where it brings one, because that is how it is going to be asked.
    """

    def __init__(self, pair: ModelPair, render: Render) -> None:
        self._tokenizer: Any = pair.tokenizer
        self._template = own_template(pair.settings_of("tuned"), pair.tokenizer)
        self._rendering: Rendering = choose_rendering(render, pair.tokenizer, self._template)
        self._slots: dict[tuple[ContextName, Carrier], Slot] = {}

    def slot(self, context: ContextName, carrier: Carrier) -> Slot:
        """The slot of a carrier in a context."""
        key = (context, carrier)
        if key not in self._slots:
            trigger = TriggerSpec(triggered=_PROBES[0], clean=_PROBES[1], template=TEMPLATES[context])
            renderer = Renderer(self._tokenizer, trigger, self._rendering, self._template)
            self._slots[key] = Slot.of(renderer, carrier)
        return self._slots[key]
