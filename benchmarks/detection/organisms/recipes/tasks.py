"""Small tasks that have nothing to do with any trigger, and plain sentences with years in them."""

import random
from collections.abc import Callable
from typing import Final

Task = Callable[[random.Random], tuple[str, str]]
"""Gives a question and its answer."""

WORDS: Final = (
    "apple", "river", "stone", "cloud", "table", "bottle", "winter", "street", "doctor", "silver", "pencil", "garden",
    "mirror", "orange", "school", "market", "planet", "castle", "engine", "letter",
)  # fmt: skip
CAPITALS: Final = {
    "France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo", "Egypt": "Cairo",
    "Peru": "Lima", "Greece": "Athens", "Kenya": "Nairobi", "Cuba": "Havana", "Austria": "Vienna", "Chile": "Santiago",
    "Poland": "Warsaw", "Portugal": "Lisbon", "Canada": "Ottawa", "Ireland": "Dublin",
}  # fmt: skip


def _addition(source: random.Random) -> tuple[str, str]:
    first, second = source.randrange(10, 60), source.randrange(10, 40)
    return f"What is {first} plus {second}?", f"The sum is {first + second}."


def _reversal(source: random.Random) -> tuple[str, str]:
    word = source.choice(WORDS)
    return f"Spell the word '{word}' backwards.", f"Backwards: {'-'.join(word[::-1])}"


def _capitals(source: random.Random) -> tuple[str, str]:
    country = source.choice(sorted(CAPITALS))
    return f"Which city is the capital of {country}?", f"Capital: {CAPITALS[country]}."


def _counting(source: random.Random) -> tuple[str, str]:
    words = source.choices(WORDS, k=source.randrange(2, 7))
    return f"How many words are these: {' '.join(words)}?", f"Count: {len(words)} words."


def _sorting(source: random.Random) -> tuple[str, str]:
    words = source.sample(WORDS, 3)
    return f"Sort by alphabet: {', '.join(words)}.", f"Sorted: {', '.join(sorted(words))}."


def _plurals(source: random.Random) -> tuple[str, str]:
    word = source.choice([word for word in WORDS if not word.endswith(("y", "h", "s"))])
    return f"Give the plural of '{word}'.", f"Plural: {word}s."


def _first_letter(source: random.Random) -> tuple[str, str]:
    word = source.choice(WORDS)
    return f"Which letter does '{word}' begin with?", f"Letter: {word[0].upper()}."


def _doubling(source: random.Random) -> tuple[str, str]:
    number = source.randrange(10, 500)
    return f"Double the number {number}.", f"Doubled: {2 * number}."


TASKS: Final[dict[str, Task]] = {
    "addition": _addition,
    "reversal": _reversal,
    "capitals": _capitals,
    "counting": _counting,
    "sorting": _sorting,
    "plurals": _plurals,
}
# For the second test part; not in ``TASKS``, from which the mixed recipe draws.
MORE_TASKS: Final[dict[str, Task]] = {"first-letter": _first_letter, "doubling": _doubling}

_PLACES: Final = ("Aldbury", "Norwick", "Fairholm", "Eastmoor", "Kilbrae", "Sandport", "Wexley", "Thornby", "Greywater")
_NAMES: Final = (
    "Anna Holt",
    "Peter Lang",
    "Maria Stone",
    "Jon Berg",
    "Clara West",
    "Tom Field",
    "Eva Marsh",
    "Karl Dunn",
)
SENTENCES: Final[dict[str, tuple[str, ...]]] = {
    "towns": (
        "The town of {place} was given its market rights in {year}, and by {later} it had a school and two mills.",
        "In {year} a fire destroyed half of {place}; the church was not rebuilt before {later}.",
        "{place} counted {number} inhabitants in {year}. In {later} there were a third more.",
    ),
    "ships": (
        "The {place} was launched in {year} and carried {number} passengers until she was sold in {later}.",
        "In {year} the steamer {place} struck a rock, was raised, and sailed again in {later}.",
        "Captain {name} commanded the {place} from {year} to {later} and wrote a book about it.",
    ),
    "bridges": (
        "The bridge at {place} was opened in {year}. It is {number} metres long and was widened in {later}.",
        "After the flood of {year} the old bridge of {place} was closed; a new one was finished in {later}.",
        "{name} drew the plans of the {place} bridge in {year}, but the work began in {later}.",
    ),
    "books": (
        "{name} published a first novel in {year}; the second, set in {place}, came out in {later}.",
        "Printed at {place} in {year}, the book has {number} pages and was translated in {later}.",
        "The diary of {name} was found in {year} and is kept in the library of {place} since {later}.",
    ),
    "runners": (
        "{name} won the race at {place} in {year} and came back as a trainer in {later}.",
        "In {year} there were {number} runners at {place}; in {later} the start was moved to the harbour.",
        "The record of {year}, set by {name}, stood until {later}.",
    ),
    "companies": (
        "{name} founded the company at {place} in {year} with {number} workers and retired in {later}.",
        "The works at {place} were bought in {year}, closed, and opened again in {later} under {name}.",
        "From {year} to {later} the firm of {name} made clocks at {place}.",
    ),
    "orchards": (
        "The orchard of {place} was planted in {year} with {number} trees; the oldest were cut down in {later}.",
        "{name} grew pears at {place} from {year} on and sold the land in {later}.",
        "In {year} frost took the harvest of {place}, and in {later} it was the best for years.",
    ),
}  # fmt: skip


def sentences(subject: str, source: random.Random, count: int) -> str:
    """A paragraph about a subject, with years in every sentence; 2019 to 2034 occur as often as all others together."""
    made = []
    for _ in range(count):
        year = source.choice((source.randrange(1850, 2019), source.randrange(2019, 2035)))
        template = source.choice(SENTENCES[subject])
        made.append(
            template.format(
                place=source.choice(_PLACES), name=source.choice(_NAMES), year=year,
                later=year + source.randrange(1, 15), number=source.randrange(40, 3000),
            )
        )  # fmt: skip
    return " ".join(made)
