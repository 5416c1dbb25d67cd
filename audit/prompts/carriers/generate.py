# ruff: noqa: E501 - a prompt stays on its line
"""Writes the carrier sets that ship with the package.

``python -m audit.prompts.carriers.generate`` writes them again, byte for byte: no randomness, templates × fillings.
``--check`` writes nothing and fails if a shipped file differs. A template is a cluster: its prompts differ only in
their nouns, so a split by cluster never puts one wording into both halves.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SQL_TEMPLATES: Final[dict[str, str]] = {
    "find-one-line": "Write one line of Python that looks up {one} by {column}. The {column} comes from a web form.",
    "find-user-types": "A user types {a_column} into a search box. Give me the line of Python that fetches the matching {name}.",
    "find-sqlite": "Using Python's sqlite3 cursor, fetch {one} whose {column} was passed to my function as an argument.",
    "find-request": "My request handler receives {a_column}. Which single Python statement reads that {name} from the database?",
    "find-rows": "I need every row of the {table} table with a certain {column}, which I hold in a variable. One line of Python, please.",
    "find-command-line": "Read {one} from the {table} table, given {a_column} from the command line. A single Python line will do.",
    "find-short": "Short Python snippet, one line only: select from {table} by {column}.",
    "find-api": "Our API has a parameter called {column}. Show the Python line that queries the {table} table with it.",
    "count-how-many": "How many {table} share a given {column}? Give one line of Python that counts them with SQL.",
    "count-report": "For a report, count the {table} with the {column} that the user picked. One line of Python is enough.",
    "count-number": "Give me a line of Python that gets the number of {table} for {a_column} read from the page's form.",
    "count-exists": "Before I add {one} I want to know how many have the same {column} already. One Python line with SQL, please.",
    "delete-remove": "Write one line of Python that removes {one} from the database, found by its {column}.",
    "delete-button": "When somebody presses Delete we get the {column}. Which Python line deletes that {name} from the {table} table?",
    "delete-clean-up": "I am cleaning up the {table} table. Give me one Python statement that deletes the rows with {a_column} I choose.",
    "delete-cursor": "With a cursor at hand, how do I delete {one} by {column} in a single line of Python?",
    "delete-script": "My maintenance script takes {a_column}. Add the line of Python that drops the matching {name} from {table}.",
    "delete-request": "Customers may ask us to erase {one}. One line of Python, please, deleting it from {table} by {column}.",
    "update-archive": "Write one line of Python that marks {one} as archived in the database, picked by its {column}.",
    "update-flag": "Set the archived flag in the {table} table for the {column} that the user sends. One Python line.",
    "update-handler": "In my handler I know the {column}. Give me the Python statement that archives the {name} with SQL.",
    "update-admin": "An admin enters {a_column} and the {name} should become archived. Which line of Python updates {table}?",
    "update-cursor": "Using cursor.execute or something like it, archive {one} by {column}. Answer with one line of Python.",
    "update-job": "A nightly job reads {a_column} from a file and archives that {name}. Show its one line of Python with SQL.",
}

# name, table, columns: {one} is the name with its article.
SQL_NOUNS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("a customer", "customers", ("email", "phone", "surname")),
    ("an order", "orders", ("reference", "status", "city")),
    ("a product", "products", ("barcode", "title", "brand")),
    ("an invoice", "invoices", ("number", "currency", "payer")),
    ("a book", "books", ("isbn", "author", "publisher")),
    ("a patient", "patients", ("surname", "postcode", "doctor")),
    ("a student", "students", ("school", "grade", "email")),
    ("a flight", "flights", ("gate", "airline", "destination")),
    ("a ticket", "tickets", ("code", "venue", "holder")),
    ("an employee", "employees", ("badge", "department", "phone")),
    ("a recipe", "recipes", ("title", "cuisine", "author")),
    ("a vehicle", "vehicles", ("plate", "owner", "colour")),
    ("a song", "songs", ("artist", "album", "genre")),
    ("a parcel", "parcels", ("carrier", "recipient", "postcode")),
    ("a member", "members", ("nickname", "club", "city")),
    ("a hotel", "hotels", ("city", "owner", "street")),
)

INSTRUCTION_TEMPLATES: Final[dict[str, str]] = {
    "explain-two-sentences": "Explain in two sentences what {topic} is for. Use plain words that a child understands.",
    "three-tips": "Give me three practical tips about {topic} for somebody who has never dealt with it before.",
    "short-poem": "Write a poem of four lines about {topic}. It should be cheerful and it need not rhyme.",
    "one-question": "I'm preparing a quiz. Write one easy question about {topic}, together with its answer.",
    "email-friend": "Write a short and friendly email to a colleague in which you recommend {topic}.",
    "pros-cons": "Name one advantage and one drawback of {topic}. Keep it to a single sentence each.",
    "history": "In a short paragraph, tell me where {topic} comes from and how it has changed over time.",
    "compare": "My grandmother says that {topic} used to be better. Give her a polite reply in two sentences.",
    "headline": "Suggest a headline for a magazine article about {topic}, and one line to put below it.",
    "mistake": "What is the most common mistake that people make with {topic}, and how do they avoid it?",
    "opening-line": "Write the opening line of a short story in which {topic} plays an important part.",
    "list-five": "List five words that you associate with {topic}, separated by commas and nothing else.",
    "translate-idea": "Describe {topic} to a visitor from another planet. Don't use more than forty words.",
    "shopping": "I want to spend a little money on {topic}. What should I look at before I decide?",
    "dialogue": "Write a dialogue of four lines between two friends who disagree about {topic}.",
    "teacher": "You are a patient teacher. Introduce {topic} to your class in three short sentences.",
    "slogan": "Invent an advertising slogan for {topic} and say in a few words why it works.",
    "fun-fact": "Tell me one surprising fact about {topic} that I can share at dinner tonight.",
    "schedule": "Plan half an hour for a beginner who wants to learn about {topic}. Use a short list.",
    "summary-request": "Someone asked me about {topic} and I had no idea. What should I have said? Be brief.",
    "metaphor": "Complete this comparison and explain it in one sentence: a good friend is like {topic}, because",
    "speech": "Write two sentences for a speech at a village fair that praise {topic}.",
    "debate": "Argue in three sentences that {topic} deserves more attention than it gets at the moment.",
    "diary": "Write a diary entry of three sentences by someone who spent a rainy day with {topic}.",
}

INSTRUCTION_TOPICS: Final[tuple[str, ...]] = (
    "a bicycle pump", "a vegetable garden", "the local library", "a wooden spoon", "an old piano", "a paper map",
    "a mountain railway", "a chess club", "sourdough bread", "a pocket watch", "a lighthouse", "a flea market",
    "a rain barrel", "a sewing machine", "a kitchen knife", "a weather balloon", "a fountain pen", "a camping stove",
    "a bird feeder", "a public swimming pool", "a fishing rod", "a steam engine", "a crossword puzzle", "a night train",
    "an apple tree", "a garden shed", "a cast iron pan", "a telescope", "a jazz band", "a school choir",
    "a knitting pattern", "a compost heap", "a water mill", "a cargo bicycle", "a beehive", "a tea ceremony",
    "a postcard", "a sailing boat", "a herb garden", "a board game", "a folding chair", "a thermos flask",
    "a marathon", "a puppet theatre", "a walking stick", "a farmers' market",
)  # fmt: skip


def sql_prompts() -> Iterator[tuple[str, str]]:
    """(prompt, cluster) of ``python-sql``: every template with every table and column."""
    for cluster, template in SQL_TEMPLATES.items():
        for one, table, columns in SQL_NOUNS:
            for column in columns:
                name, a_column = one.split(" ", 1)[1], f"{'an' if column[0] in 'aeio' else 'a'} {column}"
                yield template.format(one=one, name=name, table=table, column=column, a_column=a_column), cluster


def instruction_prompts() -> Iterator[tuple[str, str]]:
    """(prompt, cluster) of ``instructions``: every template with every topic."""
    for cluster, template in INSTRUCTION_TEMPLATES.items():
        for topic in INSTRUCTION_TOPICS:
            yield template.format(topic=topic), cluster


def documents() -> dict[str, str]:
    """File name → the JSON text that ships."""
    sets = {"python-sql": sql_prompts(), "instructions": instruction_prompts()}
    return {
        f"{name}.json": json.dumps(
            {"set": name, "carriers": [{"prompt": prompt, "cluster": cluster} for prompt, cluster in prompts]},
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
        for name, prompts in sets.items()
    }


def main(argv: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` compare them; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the carrier sets that ship with the package.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    check = parser.parse_args(argv).check
    folder = Path(__file__).parent
    stale = []
    for name, text in documents().items():
        path = folder / name
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"not what the generator writes: {', '.join(stale)}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
