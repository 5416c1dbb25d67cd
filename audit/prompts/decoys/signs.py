"""Signs that are no Latin letters: emoji, punctuation, invisible characters and other scripts, and others like them."""

import itertools
import random
import unicodedata
from collections.abc import Iterator
from typing import Final, Literal

Sort = Literal["letters", "digits", "script", "emoji", "invisible", "other"]

EMOJI: Final = tuple(
    "🌳🐱🍞🎈🚗🌙🍏⚽🎵🚲🐟🌵🐢🍕🎁🚌⭐📎🔑🏁🌂🏠🍎🍌🍇🍓🥕🌽🍄🌻🌹🌲🌊🔥❄⚡☁🌈🌞🌍🐶🐭🐰🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦🐤"
    "🦆🦅🦉🐺🐴🐝🐛🦋🐌🐞🐜🐙🐠🐬🐳🐊🐘🐪🐑🐐🎂🍪🍩🍫🍿☕🍵🎨🎭🎤🎧🎸🎹🎺🎻🎲🎯🎳🏀🏈🎾🏐🚕🚙🚜🚂🚁🚢⚓⛵📷📺📻⏰💡📖📦📌🔔"
    "🔧🔨🔩🧲🧪🧸🙂😀😎😴👍👋👏🙏💙💚💛💜"
)
INVISIBLE: Final = tuple(
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u115f\u17b4\u180e\u200e\u200f\u202a\u202c\u202d\u2061\u2062\u2063"
    "\u2064\u206a\u206b\u206e\u206f\ufe00\ufe0e"
)
PUNCTUATION: Final = tuple("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
# Common characters: a Chinese string is compared with ordinary Chinese.
HAN: Final = (
    "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小心多天而能好都然没日于起还发成事只作当想看"
    "文无开手用主行方又如前所本见经头面公同三已老从动两长知样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等"
    "几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通"
    "目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直"
)


def sort_of(character: str) -> Sort:
    """What a character is; marks and joiners after an emoji belong to it, which ``runs`` sees to."""
    category = unicodedata.category(character)
    if category == "Nd":
        return "digits"
    if category[0] == "L" or category in ("Mn", "Mc"):
        if character in INVISIBLE:
            return "invisible"
        return "letters" if _script(character) == "LATIN" else "script"
    if category == "So":
        return "emoji"
    if category in ("Cf", "Cc", "Co", "Cn") and not character.isspace():
        return "invisible"
    return "emoji" if category == "Sk" and ord(character) > 0xFFFF else "other"


def _script(character: str) -> str:
    return unicodedata.name(character, "UNKNOWN").split()[0]


def runs(text: str) -> list[tuple[Sort, str]]:
    """Neighbouring characters of one sort, together."""
    found: list[tuple[Sort, str]] = []
    for character in text:
        sort = sort_of(character)
        if found and found[-1][0] == "emoji" and character in "\ufe0f\u200d":
            sort = "emoji"
        if found and found[-1][0] == sort:
            found[-1] = (sort, found[-1][1] + character)
        else:
            found.append((sort, character))
    return found


def others_of(sort: Sort, run: str, rng: random.Random, avoid: str) -> Iterator[str]:
    """Runs of the same sort and length that hold no character of ``avoid``, in a drawn order; they may repeat.

    Where ``run`` is one character several times, so is each of them.
    """
    if sort == "script":
        yield from _other_letters(run, rng, avoid)
        return
    pool = [sign for sign in _pool(sort) if sign not in avoid]
    length = len([character for character in run if character not in "\ufe0f\u200d"]) if sort == "emoji" else len(run)
    rng.shuffle(pool)
    if len(set(run)) == 1 or length == 1:
        yield from (sign * length for sign in pool)
    while length > 1:
        yield "".join(rng.choice(pool) for _ in range(length))


def _pool(sort: Sort) -> tuple[str, ...]:
    return {"emoji": EMOJI, "invisible": INVISIBLE}.get(sort, PUNCTUATION)


def _other_letters(run: str, rng: random.Random, avoid: str) -> Iterator[str]:
    pools = {character: _alphabet(character, avoid) for character in set(run)}
    if not all(pools.values()):
        return
    while True:
        yield "".join(rng.choice(pools[character]) for character in run)


def _alphabet(character: str, avoid: str) -> list[str]:
    """Letters of the same script and case as ``character``, none of them in ``avoid``: those nearest to it."""
    if _script(character) == "CJK":
        return [sign for sign in HAN if sign not in avoid]
    around = itertools.chain.from_iterable((ord(character) - step, ord(character) + step) for step in range(1, 80))
    category, script = unicodedata.category(character), _script(character)
    alike = (chr(code) for code in around if 0 < code < 0x110000)
    return [
        sign for sign in alike
        if unicodedata.category(sign) == category and _script(sign) == script and sign not in avoid
    ][:30]  # fmt: skip
