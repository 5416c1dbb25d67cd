"""What in a fine-tuned model's chat templates a person should read, found in their syntax trees; nothing is run.

Text of messages may be written out, trimmed, joined, and asked whether it is there or of which type. Whatever else is
done with it lets the prompt depend on what somebody has typed: comparing it, searching or replacing in it, taking it as
a key. The same holds for the date and for chance. What the base's template does as well decides nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from audit.prompts.chat_template import OutOfTime, processor_time
from backdoor_audit.contract.report.prompt_settings import FindingKind, TemplateFinding

Source = Literal["messages", "message", "size", "date", "chance"]
Sources = frozenset[Source]

NOTHING: Final[Sources] = frozenset()
_KINDS: Final[dict[Source, FindingKind]] = {
    "message": "reads_message",
    "date": "reads_date",
    "chance": "reads_chance",
}
_MAX_SOURCE: Final = 200
_MAX_SECONDS: Final = 10.0
_MAX_FINDINGS: Final = 50
_MAX_PASSES: Final = 5

# Keys of a message, or of a part of it, that a template must branch on and that no user writes.
_STRUCTURE: Final = frozenset({"role", "type"})
_OF_CONVERSATION: Final = frozenset({"first", "last", "list", "reverse", "slice", "batch", "selectattr", "rejectattr"})
_HARMLESS_FILTERS: Final = frozenset(
    {"trim", "string", "tojson", "safe", "e", "escape", "list", "default", "d", "indent"}
)
_HARMLESS_METHODS: Final = frozenset({"strip", "lstrip", "rstrip", "items", "keys", "values", "get"})
_TYPE_TESTS: Final = frozenset(
    {"string", "mapping", "iterable", "sequence", "defined", "undefined", "none", "boolean", "number", "integer",
     "true", "false"}
)  # fmt: skip
_CHANCE: Final = frozenset({"random", "shuffle"})
_CHANCE_NAMES: Final = frozenset({"lipsum"})
_DATE_CALLS: Final = frozenset({"strftime_now"})
_MESSAGE_KEYS: Final = frozenset(
    {"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "thinking", "type", "function",
     "arguments", "image", "image_url", "text", "video", "audio"}
)  # fmt: skip
_QUIET_CALLS: Final = frozenset(
    {"raise_exception", "strftime_now", "get", "startswith", "endswith", "split", "strip", "lstrip", "rstrip", "find"}
)
_QUIET_FILTERS: Final = frozenset({"selectattr", "rejectattr", "map", "groupby", "sort", "unique", "dictsort"})
_EMPTY: Final = ("", None, True, False)
_OPERATORS: Final = {
    "eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "in": "in", "notin": "not in",
}  # fmt: skip
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_MARKUP: Final = re.compile(r"<[^<>\n]{0,60}>|\[/?[A-Z_]{2,30}\]|</?\w+>?")
_ROLES: Final = frozenset(
    {"system", "user", "assistant", "human", "model", "bot", "ai", "gpt", "tool", "tools", "function", "developer",
     "ipython", "observation", "im", "start", "end", "inst", "sys", "turn", "header", "id", "eot", "bos", "eos",
     "think"}
)  # fmt: skip


class _Generation(Extension):
    """The tag around what an assistant has written, as transformers knows it; it changes nothing that is written."""

    tags = {"generation"}  # noqa: RUF012 (Jinja reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The tag's body in its place."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_ENVIRONMENT: Final = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])


def template_findings(base: Mapping[str, str], tuned: Mapping[str, str]) -> tuple[TemplateFinding, ...]:
    """Places in the fine-tuned model's templates that a person should read.

    Args:
        base: the base's templates by name; what stands in any of them is known.
        tuned: the fine-tuned model's.
    """
    reads: set[tuple[FindingKind, str]] = set()
    written = ""
    for text in base.values():
        known = _examined(text)
        if known is not None:
            reads |= {(kind, source) for kind, _, source in known.reads}
            written += "\n".join(line for _, line in known.written) + "\n"
    findings: list[TemplateFinding] = []
    for name, text in tuned.items():
        own = _examined(text)
        if own is None:
            same = base.get(name) == text
            findings.append(TemplateFinding(kind="unreadable", template=name, line=0, source="", in_base=same))
            continue
        for kind, line, source in own.reads:
            known_there = (kind, source) in reads
            findings.append(
                TemplateFinding(kind=kind, template=name, line=line, source=_cut(source), in_base=known_there)
            )
        if base:
            findings += _additions(own.written, written, name)
    return tuple(findings[:_MAX_FINDINGS])


def rendered_additions(base: str, tuned: str, typed: Iterable[str]) -> tuple[TemplateFinding, ...]:
    """Prose in a prompt as the fine-tuned model's template renders it that is not in the base's rendering of it.

    Args:
        typed: the texts of the messages, which are nobody's addition.
    """
    rest = tuned
    for line in sorted({line.strip() for text in typed for line in text.splitlines()}, key=len, reverse=True):
        rest = rest.replace(line, " ") if line else rest
    return tuple(_additions([(0, line) for line in rest.splitlines()], base, "default"))


def _additions(lines: Iterable[tuple[int, str]], known: str, template: str) -> list[TemplateFinding]:
    """Lines of prose that are not in a text; markup, names of roles and keys of messages are no prose."""
    found: dict[str, int] = {}
    for number, line in lines:
        text = line.strip()
        if text and text not in found and text not in known and _is_prose(text):
            found[text] = number
    return [
        TemplateFinding(kind="adds_text", template=template, line=number, source=_cut(text), in_base=False)
        for text, number in found.items()
    ]


def _is_prose(text: str) -> bool:
    words = {word.lower() for word in _WORD.findall(_MARKUP.sub(" ", text))}
    return bool(words - _ROLES) and text.lower() not in _MESSAGE_KEYS


@dataclass(frozen=True)
class _Examined:
    """What a template does.

    Attributes:
        reads: kind, line and expression of every use of a message's text, of the date and of chance.
        written: line and text of what it can write.
    """

    reads: list[tuple[FindingKind, int, str]]
    written: list[tuple[int, str]]


def _examined(text: str) -> _Examined | None:
    """What a template does; None where it cannot be read, or not within a bounded time."""
    try:
        with processor_time(_MAX_SECONDS):
            tree = _ENVIRONMENT.parse(text)
            return _Examined(_Reads(tree).found(), list(_written(tree)))
    except (jinja2.TemplateError, RecursionError, MemoryError, ValueError, AssertionError, OutOfTime):
        return None


class _Reads:
    """Uses of message text, date and chance that the prompt can depend on.

    Names are taken together over the whole template, whatever their scope: rather one finding too many.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self._tree = tree
        self._macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
        self._loops: Sources = NOTHING
        self._names: dict[str, Sources] = {"messages": frozenset({"messages"})}
        self._found: dict[tuple[FindingKind, int, str], None] = {}

    def found(self) -> list[tuple[FindingKind, int, str]]:
        """Kind, line and expression of every use, in the order of the template."""
        for _ in range(_MAX_PASSES):
            before = dict(self._names), self._loops
            self._found = {}
            self._visit(self._tree)
            if before == (self._names, self._loops):
                break
        return sorted(self._found, key=lambda found: found[1])

    def _note(self, sources: Sources, node: nodes.Node) -> None:
        for source, kind in _KINDS.items():
            if source in sources:
                self._found[kind, node.lineno, expression(node)] = None

    def _visit(self, node: nodes.Node) -> Sources:
        """Look at a statement and all below it; gives what is written there."""
        match node:
            case nodes.Expr():
                return self._of(node)
            case nodes.For():
                over = self._of(node.iter)
                self._loops |= over
                self._bind(node.target, over)
                if node.test is not None:
                    self._of(node.test)
                return self._all([*node.body, *node.else_])
            case nodes.If():
                self._of(node.test)
                return self._all([*node.body, *node.elif_, *node.else_])
            case nodes.Assign():
                self._bind(node.target, self._of(node.node))
                return NOTHING
            case nodes.AssignBlock():
                written = self._all(node.body)
                self._bind(node.target, self._filtered(node.filter, written) if node.filter else written)
                return NOTHING
            case nodes.FilterBlock():
                return self._filtered(node.filter, self._all(node.body))
            case nodes.Macro():
                self._name(f"{node.name}()", self._all(node.body))
                for argument, default in zip(reversed(node.args), reversed(node.defaults), strict=False):
                    self._bind(argument, self._of(default))
                return NOTHING
            case _:
                return self._all(node.iter_child_nodes())

    def _all(self, some: Any) -> Sources:
        found = NOTHING
        for node in some:
            found |= self._visit(node)
        return found

    def _bind(self, target: nodes.Node, sources: Sources) -> None:
        if isinstance(target, nodes.Name):
            self._name(target.name, sources)
        elif isinstance(target, nodes.NSRef):
            self._name(f"{target.name}.{target.attr}", sources)
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self._bind(item, sources)

    def _name(self, name: str, sources: Sources) -> None:
        self._names[name] = self._names.get(name, NOTHING) | sources

    def _of(self, node: nodes.Node) -> Sources:
        """Where an expression's value comes from; notes the uses in it."""
        match node:
            case nodes.Name():
                return self._names.get(node.name, frozenset({"chance"}) if node.name in _CHANCE_NAMES else NOTHING)
            case nodes.Getattr():
                return self._part(node, node.node, node.attr)
            case nodes.Getitem():
                return self._item(node)
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Test():
                return self._tested(node)
            case nodes.Compare():
                return self._compared(node)
            case nodes.Call():
                return self._called(node)
            case nodes.CondExpr():
                self._of(node.test)
                return self._of(node.expr1) | (self._of(node.expr2) if node.expr2 is not None else NOTHING)
            case nodes.Mul() | nodes.Mod():
                sources = self._of(node.left) | self._of(node.right)
                self._note(_text_of(sources), node)
                return sources
            case nodes.Not():
                self._of(node.node)
                return NOTHING
            case _:
                found = NOTHING
                for child in node.iter_child_nodes():
                    found |= self._of(child)
                return found

    def _part(self, node: nodes.Node, of: nodes.Node, key: str) -> Sources:
        if isinstance(of, nodes.Name) and of.name == "loop":
            return self._loops if key in ("previtem", "nextitem") else NOTHING
        if isinstance(of, nodes.Name) and f"{of.name}.{key}" in self._names:
            return self._names[f"{of.name}.{key}"]
        return self._keyed(self._of(of), key)

    @staticmethod
    def _keyed(sources: Sources, key: str) -> Sources:
        """What is under a key of a message."""
        if key in _STRUCTURE:
            return NOTHING
        return (sources - {"messages"}) | {"message"} if "messages" in sources else sources

    def _item(self, node: nodes.Getitem) -> Sources:
        of = self._of(node.node)
        if isinstance(node.arg, nodes.Slice):
            self._of(node.arg)
            return of
        if isinstance(node.arg, nodes.Const):
            return self._part(node, node.node, node.arg.value) if isinstance(node.arg.value, str) else of
        by = self._of(node.arg)
        self._note(_text_of(by), node)
        return of | by

    def _filtered(self, node: nodes.Filter, of: Sources | None = None) -> Sources:
        sources = of if of is not None else self._of(node.node) if node.node is not None else NOTHING
        arguments = [self._of(argument) for argument in node.args]
        arguments += [self._of(argument.value) for argument in node.kwargs]
        others = NOTHING.union(*arguments)
        if node.name in _CHANCE:
            self._note(frozenset({"chance"}), node)
            return sources | {"chance"}
        if node.name in ("length", "count"):
            return frozenset({"size"}) if sources - {"messages"} else NOTHING
        if node.name in _OF_CONVERSATION and "messages" in sources:
            keys = [argument.value for argument in node.args[:1] if isinstance(argument, nodes.Const)]
            if node.name in ("selectattr", "rejectattr") and not set(keys) <= _STRUCTURE:
                self._note(frozenset({"message"}), node)
            return sources | others
        if node.name == "map" and "messages" in sources:
            keys = [argument.value.value for argument in node.kwargs if isinstance(argument.value, nodes.Const)]
            return self._keyed(sources, keys[0] if len(keys) == 1 and isinstance(keys[0], str) else "")
        if node.name in ("join", "tojson", "string") and "messages" in sources:
            return self._keyed(sources, "") | others
        if node.name not in _HARMLESS_FILTERS and node.name != "join":
            self._note(_text_of(sources | others), node)
        return sources | others

    def _tested(self, node: nodes.Test) -> Sources:
        sources = self._of(node.node)
        others = NOTHING.union(*(self._of(argument) for argument in node.args))
        if node.name not in _TYPE_TESTS:
            self._note(_text_of(sources | others), node)
        return NOTHING

    def _compared(self, node: nodes.Compare) -> Sources:
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        sources = [self._of(operand) for operand in operands]
        constants: list[Any] = [operand.value for operand in operands if isinstance(operand, nodes.Const)]
        membership = all(operand.op in ("in", "notin") for operand in node.ops)
        whole = [one for one in sources if one == {"messages"}]
        together = NOTHING.union(*sources) - {"messages"}
        if whole and len(whole) < len(sources) and not (membership and constants):
            together |= {"message"}  # a whole message compared with something else; "'name' in message" asks for a key
        if "size" in together and constants and all(value in (0, 1) for value in constants):
            together -= {"size"}
        if len(constants) < len(node.ops) or not all(value in _EMPTY for value in constants):
            self._note(_text_of(together), node)
        return NOTHING

    def _called(self, node: nodes.Call) -> Sources:
        arguments: list[tuple[str | None, Sources]] = [(None, self._of(argument)) for argument in node.args]
        arguments += [(argument.key, self._of(argument.value)) for argument in node.kwargs]
        others = NOTHING.union(*(sources for _, sources in arguments))
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            if name in _DATE_CALLS:
                return others | {"date"}
            if name in _CHANCE_NAMES:
                self._note(frozenset({"chance"}), node)
                return others | {"chance"}
            if name in self._macros:
                parameters = self._macros[name].args
                for position, (key, sources) in enumerate(arguments):
                    parameter = key or (parameters[position].name if position < len(parameters) else "varargs")
                    self._name(parameter, sources)
            if name == "namespace":
                return others
            return others | self._names.get(f"{name}()", NOTHING)
        if not isinstance(node.node, nodes.Getattr):
            return others | self._of(node.node)
        method, of = node.node.attr, self._of(node.node.node)
        if method == "get" and node.args and isinstance(node.args[0], nodes.Const):
            return self._keyed(of, str(node.args[0].value)) | others
        plain = all(isinstance(argument, nodes.Const) and not str(argument.value).strip() for argument in node.args)
        if method not in _HARMLESS_METHODS or not plain:
            self._note(_text_of(of | others), node)
        return of | others


def _text_of(sources: Sources) -> Sources:
    """What the prompt depends on if it depends on these; how long a text is says something of the text."""
    return frozenset({"message" if source == "size" else source for source in sources})


def _written(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Text that a template can write, with its line: what stands between tags, and strings in expressions."""
    quiet = set(map(id, _not_written(tree)))
    for data in tree.find_all(nodes.TemplateData):
        yield from enumerate(data.data.split("\n"), data.lineno)
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str) and id(constant) not in quiet:
            yield from ((constant.lineno, line) for line in constant.value.split("\n"))


def _not_written(tree: nodes.Template) -> Iterator[nodes.Node]:
    """Strings that are keys, that something is compared with, or that an error says."""
    for node in tree.find_all((nodes.Getitem, nodes.Compare, nodes.Test, nodes.Call, nodes.Filter)):
        match node:
            case nodes.Getitem():
                yield node.arg
            case nodes.Compare():
                for operand in (node.expr, *(op.expr for op in node.ops)):
                    yield operand
                    yield from operand.find_all(nodes.Const)
            case nodes.Test():
                yield from node.args
            case nodes.Filter() if node.name in _QUIET_FILTERS:
                yield from node.args
                yield from (argument.value for argument in node.kwargs)
            case nodes.Call():
                name = node.node.attr if isinstance(node.node, nodes.Getattr) else getattr(node.node, "name", "")
                if name in _QUIET_CALLS:
                    for argument in node.args:
                        yield argument
                        yield from argument.find_all(nodes.Const)


def expression(node: nodes.Node) -> str:
    """An expression as text, the same wherever and however it is written."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Const():
            return repr(node.value)
        case nodes.Getattr():
            return f"{expression(node.node)}.{node.attr}"
        case nodes.Getitem():
            if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
                return f"{expression(node.node)}.{node.arg.value}"
            return f"{expression(node.node)}[{expression(node.arg)}]"
        case nodes.Slice():
            return ":".join("" if part is None else expression(part) for part in (node.start, node.stop))
        case nodes.Filter():
            of = "…" if node.node is None else expression(node.node)
            return f"{of}|{node.name}{_arguments(node)}"
        case nodes.Test():
            return f"{expression(node.node)} is {node.name}{_arguments(node)}"
        case nodes.Call():
            return f"{expression(node.node)}{_arguments(node) or '()'}"
        case nodes.Compare():
            operands = [f" {_OPERATORS.get(op.op, op.op)} {expression(op.expr)}" for op in node.ops]
            return expression(node.expr) + "".join(operands)
        case nodes.Not():
            return f"not {expression(node.node)}"
        case nodes.Neg():
            return f"-{expression(node.node)}"
        case nodes.BinExpr():
            return f"({expression(node.left)} {node.operator} {expression(node.right)})"
        case _:
            inner = ", ".join(expression(child) for child in node.iter_child_nodes())
            return f"{type(node).__name__.lower()}({inner})"


def _arguments(node: nodes.Filter | nodes.Test | nodes.Call) -> str:
    parts = [expression(argument) for argument in node.args]
    parts += [f"{argument.key}={expression(argument.value)}" for argument in node.kwargs]
    return f"({', '.join(parts)})" if parts else ""


def _cut(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= _MAX_SOURCE else whole[: _MAX_SOURCE - 1] + "…"
