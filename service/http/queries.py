"""Query strings are checked as strictly as bodies: a misspelt filter must not list everything."""

from collections import Counter
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from service.errors import ErrorItem, InvalidRequest
from service.http.validation import pointer


async def refuse_unknown(request: Request) -> None:
    """Refuse unknown and duplicate parameters.

    Raises:
        InvalidRequest
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    dependant = request.scope["route"].dependant
    params = [param for param in get_flat_params(dependant) if isinstance(param.field_info, Query)]
    known = {param.alias for param in params}
    repeatable = {param.alias for param in params if get_origin(param.field_info.annotation) is list}
    items = [
        ErrorItem(
            "query", pointer([name]), "is given more than once" if name in known else "is not a parameter of this call"
        )
        for name, times in given.items()
        if name not in known or (times > 1 and name not in repeatable)
    ]
    if items:
        raise InvalidRequest(errors=items[:20])
