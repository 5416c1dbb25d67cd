"""A checkpoint's chat template: a program by a stranger, run with bounds.

It runs in transformers' sandboxed Jinja environment, which reaches neither files nor Python's own objects, and for a
bounded time: the clock raises at the next instruction of the template. ``strftime_now`` gives one fixed day, so that an
audit gives the same answer on every day.
"""

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import jinja2

from audit.errors import InvalidAudit, ModelRejected
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings

TODAY: Final = datetime(2024, 7, 26)
"""The day that templates are given as today's; Llama's templates name it where no clock is there."""
MAX_SECONDS: Final = 5.0
"""Processor time of one rendering."""
MAX_TOTAL_SECONDS: Final = 300.0
"""Processor time of all renderings of one template."""
MAX_CHARS: Final = 4 * 1024**2
"""Characters that a template may write."""


class OutOfTime(BaseException):
    """Passes through Jinja, which catches every ``Exception``."""


@dataclass
class ChatTemplate:
    """One template and the special tokens that it may name.

    Attributes:
        text: the template.
        tokens: special tokens by name, as the template's variables.
        seconds: processor time that its renderings have taken.
    """

    text: str
    tokens: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    _template: jinja2.Template | None = field(default=None, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """``sha256:…`` over the template and its special tokens."""
        text = json.dumps([self.text, sorted(self.tokens.items())], ensure_ascii=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def same_as(self, other: "ChatTemplate | None") -> bool:
        """Whether both render every conversation alike, as far as their text tells."""
        return other is not None and (self.text, self.tokens) == (other.text, other.tokens)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, up to where the answer begins.

        Raises:
            InvalidAudit: the template refuses the conversation.
            ModelRejected: it cannot be read, takes too long, or writes too much.
        """
        before = time.process_time()
        left = min(MAX_SECONDS, MAX_TOTAL_SECONDS - self.seconds)
        try:
            if left <= 0:
                raise OutOfTime
            with processor_time(left):
                text = self._compiled().render(
                    messages=[dict(message) for message in messages],
                    tools=None,
                    documents=None,
                    add_generation_prompt=True,
                    **self.tokens,
                )
        except OutOfTime:
            most = MAX_SECONDS if left > 0 else MAX_TOTAL_SECONDS
            raise ModelRejected(
                f"the chat template ran for more than {most:.3g} s of processor time",
                hint="a template takes milliseconds: read it before you use this model, or render 'raw'",
            ) from None
        except MemoryError:
            raise ModelRejected(
                "the chat template took all memory", hint="read it before you use this model, or render 'raw'"
            ) from None
        except jinja2.TemplateSyntaxError as error:
            raise ModelRejected(
                f"the chat template cannot be read: line {error.lineno}: {(error.message or '')[:200]}",
                hint="copy the template again from the model that was fine-tuned, or render 'raw'",
            ) from error
        except Exception as error:  # templates raise what they like, jinja2's errors most of all
            raise InvalidAudit(
                f"the chat template does not accept a carrier ({type(error).__name__}: {str(error)[:200]})",
                hint="its roles or their order may not be allowed: change the carrier or its slot, or render 'raw'",
            ) from error
        finally:
            self.seconds += time.process_time() - before
        if len(text) > MAX_CHARS:
            raise ModelRejected(
                f"the chat template wrote {len(text)} characters for one carrier",
                hint="read it before you use this model, or render 'raw'",
            )
        return text

    def _compiled(self) -> jinja2.Template:
        """The template in transformers' environment, as ``apply_chat_template`` renders it, with its clock stopped."""
        if self._template is None:
            # The plan of an audit imports this module, and the API the plan, which has no transformers.
            from transformers.utils.chat_template_utils import _compile_jinja_template

            self._template = _compile_jinja_template(self.text)
            self._template.globals["strftime_now"] = TODAY.strftime
        return self._template


def base_template(tokenizer: Any) -> ChatTemplate | None:
    """The template that a tokenizer was loaded with.

    Raises:
        InvalidAudit: it has several, and none of them is the default.
    """
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = _default(found)
    return ChatTemplate(found, dict(tokenizer.special_tokens_map)) if found else None


def own_template(settings: CheckpointSettings, tokenizer: Any) -> ChatTemplate | None:
    """The fine-tuned model's own template, with its own special tokens where it brings any.

    Args:
        settings: of the fine-tuned checkpoint.
        tokenizer: the base's, whose special tokens are used where it brings none.

    Raises:
        InvalidAudit: it has several, and none of them is the default.
    """
    if not settings.templates:
        return None
    text = _default(settings.templates)
    own = {name: token for name, token in settings.tokens.items() if name.endswith("_token") and "add_" not in name}
    return ChatTemplate(text, dict(tokenizer.special_tokens_map) | own) if text else None


def _default(templates: Mapping[str, str]) -> str:
    if "default" not in templates:
        raise InvalidAudit(
            f"there are {len(templates)} named chat templates and none is the default",
            hint="name one of them 'default', or render 'raw'",
        )
    return templates["default"]


@contextlib.contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise ``OutOfTime`` once this much processor time is over; only the main thread has such a clock."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    running = True

    def stop(*_: object) -> None:
        if running:
            raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    # Again and again: an instruction may be under way that cannot be left.
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 0.001), 0.1)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
