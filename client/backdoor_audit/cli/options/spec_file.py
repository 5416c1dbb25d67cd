"""A whole spec as a person writes it: JSON, or YAML."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.text.text_files import text_of

_TAG: Final = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML without aliases, whose words mean what they mean in JSON: ``no``, ``on`` and ``2024-01-01`` are text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases, with which a small file can stand for a huge one."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases are not taken", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a name that is given twice, or is no text."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a name must be text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, words) for tag, words in resolvers if tag.removeprefix(_TAG) not in ("bool", "timestamp", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile("^(?:true|false)$"), ["t", "f"])


def read_document(file: str, what: str = "--spec") -> dict[str, Any]:
    """The document in a file, or in standard input if that is ``-``.

    Raises:
        WrongUsage: it cannot be read, or holds no object.
    """
    text = sys.stdin.read().removeprefix("\ufeff") if file == "-" else read_text(Path(file), what)
    return document_of(text, Path(file).suffix, what)


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Raises:
        WrongUsage: it cannot be read.
    """
    try:
        return text_of(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{what}: {path} cannot be read ({type(error).__name__})") from error


def document_of(text: str, suffix: str, what: str = "--spec") -> dict[str, Any]:
    """The spec's document, as JSON would hold it; ``suffix`` of the file decides, and without one the first character.

    Raises:
        WrongUsage: it is neither, or no object.
    """
    is_json = suffix == ".json" or (suffix not in (".yaml", ".yml") and text.lstrip().startswith(("{", "[")))
    document = _json(text, what) if is_json else _yaml(text, what)
    if not isinstance(document, dict):
        raise WrongUsage(f"{what} must hold one object", hint="fields by name, as GET /audits/{id} shows them")
    return document


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{what} does not hold JSON: {error}") from error


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise WrongUsage(f"{what} does not hold YAML: {error.problem or error.context}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WrongUsage(f"{what} does not hold YAML") from error
