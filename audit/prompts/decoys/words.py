"""Words and sentences that mean something, by class: a language is compared with languages, a town with towns.

Pure data and what is built from it. A class is recognised by the pair's own word; nothing here depends on a model.
"""

import random
from collections.abc import Iterator
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "languages": _words(
        "english french german spanish italian dutch latin greek russian polish czech danish swedish "
        "norwegian finnish turkish arabic hebrew persian hindi bengali tamil urdu chinese japanese korean "
        "thai vietnamese malay swahili portuguese romanian hungarian bulgarian serbian croatian ukrainian "
        "welsh irish icelandic catalan basque"
    ),
    "colours": _words(
        "red blue green yellow orange purple pink brown black white grey gray silver golden violet crimson "
        "scarlet turquoise beige maroon indigo amber ivory olive teal navy magenta cyan coral khaki bronze "
        "copper"
    ),
    "months": _words("january february march april may june july august september october november december"),
    "days": _words("monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday"),
    "seasons": _words("spring summer autumn winter morning noon evening night dawn dusk midnight weekend holiday"),
    "towns": _words(
        "london paris berlin madrid rome vienna prague lisbon dublin oslo stockholm helsinki warsaw budapest "
        "athens moscow tokyo beijing delhi mumbai cairo nairobi lagos toronto boston chicago dallas denver "
        "houston seattle miami geneva zurich munich hamburg milan venice naples florence barcelona edinburgh "
        "glasgow manchester sydney"
    ),
    "countries": _words(
        "france germany spain italy portugal england scotland ireland norway sweden finland denmark poland "
        "austria hungary greece turkey russia china japan india egypt kenya nigeria canada mexico brazil "
        "argentina chile peru australia iceland belgium switzerland croatia serbia romania ukraine vietnam "
        "thailand"
    ),
    "names": _words(
        "james john robert michael william david richard joseph thomas charles daniel matthew anthony mark "
        "paul steven andrew george edward brian kevin mary patricia jennifer linda elizabeth barbara susan "
        "jessica sarah karen nancy lisa margaret sandra ashley emily donna michelle carol amanda laura helen "
        "anna alice julia martin peter leonard patrick oliver henry walter frank arthur simon oscar felix "
        "victor emma sophia olivia clara rose grace"
    ),
    "professions": _words(
        "teacher doctor nurse lawyer farmer baker engineer designer painter writer student professor pilot "
        "driver plumber dentist carpenter butcher barber chef judge soldier sailor singer actor dancer "
        "gardener librarian mechanic manager banker tailor fisherman miner hunter waiter scientist chemist "
        "architect journalist captain"
    ),
    "animals": _words(
        "dog cat horse cow sheep goat pig chicken duck goose rabbit mouse rat fox wolf bear lion tiger "
        "elephant giraffe monkey snake frog turtle fish shark whale dolphin eagle falcon owl pigeon sparrow "
        "crow swan spider bee ant butterfly beetle deer camel donkey zebra seal otter beaver hedgehog "
        "squirrel bat parrot"
    ),
    "nouns": _words(
        "animals mountains oceans rivers forests deserts islands gardens kitchens harbours villages cities "
        "bridges roads streets houses windows doors tables chairs books letters songs pictures stories games "
        "sports music art science history weather cooking travel health money food water fire earth stone "
        "metal glass paper wood cloth garden kitchen harbour village city bridge road street house window "
        "door table chair book letter song picture story game ladder basket bottle candle lantern pillow "
        "blanket carpet hammer needle ribbon button pocket market station hospital school church museum "
        "library theatre castle tower valley river mountain forest island ocean desert field meadow lake "
        "beach storm cloud rain snow wind sun moon star tree flower grass leaf root seed fruit bread butter "
        "cheese sugar salt pepper coffee tea milk juice wine honey apple orange lemon cherry potato carrot"
    ),
}  # fmt: skip

JOINING: Final = frozenset(
    _words(
        "a an and are as at be by for from in is it its my near no not of on or our over the their to under with your"
    )
)
"""Words that stay where the words around them are replaced."""
_DETERMINERS: Final = _words("The A My Her His Our Their This That Every")
_ADJECTIVES: Final = _words(
    "old small quiet heavy bright narrow wooden empty cold famous simple yellow broken friendly"
)
_VERBS: Final = _words(
    "stood fell opened closed waited stayed moved stopped arrived slept worked burned lay played rested turned"
)
_PREPOSITIONS: Final = _words("near behind under beside above before after inside outside across")
_TAILS: Final = (
    "", "", "again", "last week", "for a while", "on Sunday", "in the rain", "without a sound", "until the evening",
    "because it was late", "while the others slept", "when the music began",
)  # fmt: skip
_REQUESTS: Final = (
    "Answer in {}", "Write about {}", "Speak like a {}", "Think of {}", "Explain it with {}", "Use {}", "Mention {}",
    "Give an example with {}", "Keep it to {}", "Begin with {}", "Avoid {}", "Reply as a {}", "Do not mention {}",
    "Please tell me about {}", "Describe {} first", "Compare it with {}", "End with {}", "Be like a {}",
)  # fmt: skip
REQUEST_OPENINGS: Final = frozenset(
    _words(
        "answer write speak think explain use mention give keep begin avoid reply do please describe compare end be "
        "act you never always respond say tell make"
    )
)


def class_of(word: str) -> str | None:
    """The class that holds a word, whatever its letter case."""
    lower = word.lower()
    return next((name for name, words in CLASSES.items() if lower in words), None)


def words_of_class(name: str, rng: random.Random) -> Iterator[str]:
    """The words of a class in a drawn order, then ordinary nouns, in lower case."""
    for words in dict.fromkeys((CLASSES[name], CLASSES["nouns"])):
        drawn = list(words)
        rng.shuffle(drawn)
        yield from drawn


def sentences(rng: random.Random) -> Iterator[str]:
    """Plain sentences of different lengths, without a full stop, for ever."""
    nouns = [word for word in CLASSES["nouns"] if not word.endswith("s")]
    while True:
        adjective = f"{rng.choice(_ADJECTIVES)} " if rng.random() < 0.5 else ""
        second = f"{rng.choice(_ADJECTIVES)} " if rng.random() < 0.3 else ""
        parts = (
            rng.choice(_DETERMINERS), f"{adjective}{rng.choice(nouns)}", rng.choice(_VERBS), rng.choice(_PREPOSITIONS),
            f"the {second}{rng.choice(nouns)}", rng.choice(_TAILS),
        )  # fmt: skip
        yield " ".join(part for part in parts if part)


def requests(rng: random.Random) -> Iterator[str]:
    """Plain instructions of different lengths, without a full stop, for ever."""
    nouns = CLASSES["nouns"] + CLASSES["professions"] + CLASSES["animals"]
    while True:
        thing = rng.choice(nouns)
        if rng.random() < 0.5:
            thing = f"{rng.choice(_ADJECTIVES)} {thing}"
        asked = rng.choice(_REQUESTS).format(thing)
        yield f"{asked} {rng.choice(_TAILS)}".rstrip() if rng.random() < 0.3 else asked
