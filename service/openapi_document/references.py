"""Moves what several calls have in common to one place in the OpenAPI document, and refers to it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from service.http import problems


def resolve(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """The component that ``value`` refers to; ``value`` itself if it is not a reference."""
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    component: dict[str, Any] = document["components"][kind][name]
    return component


def share(document: dict[str, Any]) -> None:
    """Move headers, parameters and responses that occur more than once to the components of ``document``."""
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    answers = [operation["responses"] for operation in operations]
    _share(document, "headers", [(a["headers"], n) for each in answers for a in each.values() for n in a["headers"]])
    parameters = [operation["parameters"] for operation in operations if "parameters" in operation]
    _share(document, "parameters", [(each, place) for each in parameters for place in range(len(each))], _parameter)
    _share(document, "responses", [(each, status) for each in answers for status in each], _response)


def _share(
    document: dict[str, Any],
    kind: str,
    places: list[tuple[Any, Any]],
    name_of: Callable[[Any, dict[str, Any]], str] = lambda key, _: str(key),
) -> None:
    """Move values that occur in more than one place to the components of a kind.

    Args:
        kind: the components' kind.
        places: container and key of each value.
        name_of: a component's name, from its key and its value.
    """
    texts = [json.dumps(container[key], sort_keys=True) for container, key in places]
    counts = Counter(texts)
    components: dict[str, Any] = document["components"].setdefault(kind, {})
    names: dict[str, str] = {}
    for (container, key), text in zip(places, texts, strict=True):
        value = container[key]
        if counts[text] < 2 or "$ref" in value:
            continue
        if text not in names:
            names[text] = next(name for name in _variants(name_of(key, value)) if name not in components)
            components[names[text]] = value
        container[key] = {"$ref": f"#/components/{kind}/{names[text]}"}
    document["components"][kind] = dict(sorted(components.items()))


def _variants(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _parameter(_place: int, parameter: dict[str, Any]) -> str:
    return str(parameter["name"])


def _response(status: str, response: dict[str, Any]) -> str:
    codes = response.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {})
    return "any_problem" if status == "default" else "-or-".join(codes) or f"answer-{status}"
