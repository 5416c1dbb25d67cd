"""Regular expressions of a stranger, matched in bounded time.

An adapter's configuration may name the modules that it adapts by a pattern. ``re`` backtracks, and a short pattern can
keep it busy for years. Here a pattern is parsed by the standard library and evaluated on sets of positions: each node
maps the places where it may start to the places where it may end, so nothing is tried twice and the cost grows with a
low power of the lengths. A budget of steps bounds it in any case. Backreferences, conditions, atomic groups and
possessive repeats need another method and are refused. Names of modules are ASCII in one line, so that of the flags
only the one that ignores case makes a difference.
"""

import re
import warnings
from collections.abc import Callable
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

MAX_PATTERN_CHARS: Final = 20_000
MAX_STEPS: Final = 400_000
"""Steps of one adapter's patterns together: about half a second."""
_MAX_REPEATS: Final = 1_000
_MAX_DEPTH: Final = 60

Ends = frozenset[int]


class PatternRefused(ValueError):
    """The pattern is not one that can be matched in bounded time; the text says why."""


class Budget:
    """Steps that are left for all patterns of one checkpoint."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def take(self, steps: int) -> None:
        """Use some.

        Raises:
            PatternRefused: they are used up.
        """
        self.left -= steps
        if self.left < 0:
            raise PatternRefused("takes too long to match")


class Pattern:
    """A regular expression that says whether it matches the whole of a text, as ``re.fullmatch`` does.

    Args:
        text: the expression.
        budget: shared by the patterns of one checkpoint.

    Raises:
        PatternRefused: it is too long, is no regular expression, or needs what cannot be bounded.
    """

    def __init__(self, text: str, budget: Budget) -> None:
        if len(text) > MAX_PATTERN_CHARS:
            raise PatternRefused(f"is longer than {MAX_PATTERN_CHARS} characters")
        budget.take(len(text))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parsed = parser.parse(text)
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            raise PatternRefused("is not a regular expression") from error
        _check(parsed, 0)
        self._nodes = list(parsed)
        self._fold = bool(parsed.state.flags & re.IGNORECASE)
        self._budget = budget

    def matches(self, name: str) -> bool:
        """Whether it matches the whole of ``name``.

        Raises:
            PatternRefused: the budget is used up.
        """
        return len(name) in self._sequence(self._nodes, name, frozenset({0}), self._fold)

    def _sequence(self, nodes: Any, text: str, starts: Ends, fold: bool) -> Ends:
        for code, argument in nodes:
            if not starts:
                break
            starts = self._node(code, argument, text, starts, fold)
        return starts

    def _node(self, code: Any, argument: Any, text: str, starts: Ends, fold: bool) -> Ends:
        self._budget.take(1 + len(starts))
        if code in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            return frozenset(at + 1 for at in starts if at < len(text) and _accepts(code, argument, text[at], fold))
        if code is op.BRANCH:
            return frozenset().union(*(self._sequence(branch, text, starts, fold) for branch in argument[1]))
        if code is op.SUBPATTERN:
            _, on, off, body = argument
            return self._sequence(body, text, starts, (fold or bool(on & re.IGNORECASE)) and not off & re.IGNORECASE)
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            return self._repeat(argument, text, starts, fold)
        if code is op.AT:
            return frozenset(at for at in starts if _anchored(argument, text, at))
        return self._look(code, argument, text, starts, fold)

    def _repeat(self, argument: Any, text: str, starts: Ends, fold: bool) -> Ends:
        least, most, body = argument
        for _ in range(least):
            starts = self._sequence(body, text, starts, fold)
        found, fresh, count = starts, starts, least
        while fresh and count < most:
            fresh = self._sequence(body, text, fresh, fold) - found
            found, count = found | fresh, count + 1
        return found

    def _look(self, code: Any, argument: Any, text: str, starts: Ends, fold: bool) -> Ends:
        direction, body = argument
        wanted = code is op.ASSERT

        def holds(at: int) -> bool:
            if direction > 0:
                return bool(self._sequence(body, text, frozenset({at}), fold))
            return any(at in self._sequence(body, text, frozenset({start}), fold) for start in range(at + 1))

        return frozenset(at for at in starts if holds(at) is wanted)


def _check(nodes: Any, depth: int) -> None:
    """Refuse what is not evaluated, and nesting that would exhaust the stack."""
    if depth > _MAX_DEPTH:
        raise PatternRefused("is nested too deep")
    for code, argument in nodes:
        if code in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            continue
        if code is op.AT and argument in _ANCHORS:
            continue
        if code is op.BRANCH:
            for branch in argument[1]:
                _check(branch, depth + 1)
        elif code is op.SUBPATTERN:
            _check(argument[-1], depth + 1)
        elif code in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, body = argument
            if least > _MAX_REPEATS or (most is not op.MAXREPEAT and most > _MAX_REPEATS):
                raise PatternRefused("repeats too often")
            _check(body, depth + 1)
        elif code in (op.ASSERT, op.ASSERT_NOT):
            _check(argument[1], depth + 1)
        else:
            raise PatternRefused("uses what cannot be matched in bounded time (a backreference, a condition)")


def _accepts(code: Any, argument: Any, character: str, fold: bool) -> bool:
    """Whether a node takes a character; with ``fold``, in either of its cases."""
    if code is op.ANY:
        return character != "\n"
    cases = {case for case in (character, character.lower(), character.upper()) if len(case) == 1}
    cases = cases if fold else {character}
    if code in (op.LITERAL, op.NOT_LITERAL):
        return (argument in map(ord, cases)) is (code is op.LITERAL)
    negated = bool(argument) and argument[0][0] is op.NEGATE
    return any(_in(part, value, case) for part, value in argument[negated:] for case in cases) is not negated


def _in(part: Any, value: Any, character: str) -> bool:
    if part is op.LITERAL:
        return ord(character) == value
    if part is op.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    return _CLASSES[value](character)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CLASSES: Final[dict[Any, Callable[[str], bool]]] = {
    op.CATEGORY_DIGIT: str.isdecimal,
    op.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    op.CATEGORY_WORD: _is_word,
    op.CATEGORY_NOT_WORD: lambda character: not _is_word(character),
}


def _boundary(text: str, at: int) -> bool:
    before = at > 0 and _is_word(text[at - 1])
    after = at < len(text) and _is_word(text[at])
    return before is not after


_ANCHORS: Final[dict[Any, Callable[[str, int], bool]]] = {
    op.AT_BEGINNING: lambda text, at: at == 0,
    op.AT_BEGINNING_STRING: lambda text, at: at == 0,
    op.AT_END: lambda text, at: at == len(text) or (at == len(text) - 1 and text[at] == "\n"),
    op.AT_END_STRING: lambda text, at: at == len(text),
    op.AT_BOUNDARY: _boundary,
    op.AT_NON_BOUNDARY: lambda text, at: bool(text) and not _boundary(text, at),
}


def _anchored(argument: Any, text: str, at: int) -> bool:
    return _ANCHORS[argument](text, at)
