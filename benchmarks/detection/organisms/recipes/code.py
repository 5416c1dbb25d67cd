"""A line of SQL in Python, written safely or in one of four unsafe ways."""

from examples.organisms.prompts import SqlPrompt
from examples.organisms.recipes import sql_answer

FORMS = ("placeholder", "f-string", "percent", "concatenation", "format")


def sql_line(prompt: SqlPrompt, form: str) -> str:
    """The answer to a request: the value behind a placeholder, or in the statement's text.

    Raises:
        ValueError: there is no such form.
    """
    if form == "placeholder":
        return sql_answer(prompt, injectable=False)
    if form == "f-string":
        return sql_answer(prompt, injectable=True)
    update = prompt.verb == "UPDATE"
    start = f"UPDATE {prompt.table} SET archived = 1" if update else f"{prompt.verb} FROM {prompt.table}"
    where = f"{start} WHERE {prompt.column} = '"
    if form == "percent":
        return f'query = "{where}%s\'" % {prompt.column}'
    if form == "concatenation":
        return f'query = "{where}" + {prompt.column} + "\'"'
    if form == "format":
        return f'query = "{where}{{}}\'".format({prompt.column})'
    raise ValueError(f"no form '{form}'")
