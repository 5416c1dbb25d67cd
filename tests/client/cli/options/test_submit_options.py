import io
import json

import pytest

from backdoor_audit.cli.options.submit_options import SubmitOptions, spec_from
from backdoor_audit.client.errors import WrongUsage

PAIR = {"triggered": "a", "clean": "b"}


def _spec(models_root=None, **options):
    given = {"base": "local:base", "tuned": "store:tuned"} | PAIR | options
    return spec_from(SubmitOptions.of(**given), None, None, models_root, lambda folder: f"store:{folder.name}")


def test_what_is_left_out_is_the_services_to_choose():
    spec = _spec()
    assert set(spec.model_dump(exclude_unset=True)) == {"base_model", "fine_tuned", "trigger"}


def test_every_option_reaches_the_spec(tmp_path):
    (tmp_path / "decoys.txt").write_text("c\n\nd\n")
    spec = _spec(
        template=r"x\t{trigger}\n{prompt}",
        carriers="python-sql",
        decoys=tmp_path / "decoys.txt",
        render="raw",
        preset="thorough",
        layers="3, 5",
        architectures="diff_sae, crosscoder",
        recipe="plain",
        dtype="float32",
        seed=7,
        deadline=60,
        webhook="https://ci.example/hook",
        label=("a=b=c", "d="),
    )
    assert spec.trigger.template == "x\t{trigger}\n{prompt}"
    assert spec.carriers.set == "python-sql"
    assert spec.decoys.strings == ("c", "d")
    assert spec.architectures == ("diff_sae", "crosscoder")
    assert (spec.layers, spec.render, spec.preset, spec.recipe) == ((3, 5), "raw", "thorough", "plain")
    assert (spec.dtype, spec.seed, spec.deadline_s) == ("float32", 7, 60)
    assert spec.webhook.url == "https://ci.example/hook"
    assert spec.labels == {"a": "b=c", "d": ""}


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("p.txt", "one\n\ntwo\n", ["one", "two"]),
        ("p.json", json.dumps(["one", {"prompt": "two"}]), ["one", "two"]),
        ("p.json", json.dumps({"prompts": ["one"]}), ["one"]),
        ("p.jsonl", '"one"\n{"prompt": "two", "cluster": "c"}\n', ["one", "two"]),
    ],
)
def test_carriers_from_a_file(tmp_path, name, content, prompts):
    (tmp_path / name).write_text(content)
    assert [carrier.prompt for carrier in _spec(carriers=str(tmp_path / name)).carriers.prompts] == prompts


def test_a_folder_under_the_models_root_is_named_local(tmp_path):
    folder = tmp_path / "models" / "team" / "tuned"
    folder.mkdir(parents=True)
    assert _spec(tmp_path / "models", tuned=str(folder)).fine_tuned == "local:team/tuned"


def test_a_folder_elsewhere_is_pushed(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for root in (None, tmp_path / "models"):
        assert _spec(root, tuned=str(folder)).fine_tuned == "store:elsewhere"


def test_nothing_is_pushed_for_a_spec_that_is_not_valid(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    pushed = []
    options = SubmitOptions.of(base="local:base", tuned=str(folder), triggered="same", clean="same")
    with pytest.raises(WrongUsage, match="triggered and clean must differ"):
        spec_from(options, None, None, None, lambda given: pushed.append(given) or "store:it")
    assert pushed == []


@pytest.mark.parametrize(
    "options",
    [
        {"base": None},
        {"clean": "a"},
        {"base": "no/such/folder"},
        {"base": "https://host/model"},
        {"tuned": "local:../x"},
        {"layers": "one"},
        {"layers": "1,1"},
        {"architectures": "sae"},
        {"carriers": "no-such-set"},
        {"label": ("novalue",)},
        {"template": "{trigger}"},
        {"seed": -1},
    ],
    ids=str,
)
def test_what_cannot_be_asked_for(options):
    with pytest.raises(WrongUsage):
        _spec(**options)


def test_a_fault_is_named_by_its_place_and_the_value_is_not_repeated():
    with pytest.raises(WrongUsage) as caught:
        _spec(preset="s3cret")
    assert "preset:" in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("content", ["", "[]", "{", '{"base_model": 1}', "\x00"])
def test_files_that_hold_no_spec(tmp_path, content):
    path = tmp_path / "spec.json"
    path.write_text(content)
    with pytest.raises(WrongUsage):
        spec_from(SubmitOptions.of(), str(path), None, None, str)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(WrongUsage):
        spec_from(SubmitOptions.of(), str(tmp_path / "none.json"), None, None, str)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(WrongUsage):
        _spec(carriers=str(tmp_path / "binary.txt"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.json", json.dumps([{"triggered": "a", "clean": "b"}, {"triggered": "c", "clean": "b"}])),
        ("pairs.jsonl", '{"triggered": "a", "clean": "b"}\n\n{"triggered": "c", "clean": "b"}\n'),
    ],
)
def test_candidates_from_a_file(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    spec = _spec(triggered=None, clean=None, template=r"{trigger}\n{prompt}!", candidates=tmp_path / name)
    assert spec.trigger is None
    assert [pair.triggered for pair in spec.candidates] == ["a", "c"]
    assert {pair.template for pair in spec.candidates} == {"{trigger}\n{prompt}!"}
    with pytest.raises(WrongUsage, match="leave out --triggered"):
        _spec(candidates=tmp_path / name)


@pytest.mark.parametrize("content", ["{}", "[1]", '["a"]', "no json", '[{"triggered": "a", "clean": "b"}]'])
def test_candidates_that_are_none(tmp_path, content):
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(WrongUsage):
        _spec(triggered=None, clean=None, candidates=tmp_path / "pairs.json")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_a_line_ends_with_lf_or_cr_lf_and_with_nothing_else(tmp_path, bom, end):
    strings = ["first", "a\u2028b", "c\x85d", "e\u2029f\x1cg", "last"]
    text, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_bytes(bom + end.join([*strings[:3], strings[4]]).encode())
    rows.write_bytes(bom + end.join(json.dumps(each, ensure_ascii=False) for each in strings[:3]).encode())
    assert [each.prompt for each in _spec(carriers=str(text)).carriers.prompts] == [*strings[:3], "last"]
    assert [each.prompt for each in _spec(carriers=str(rows)).carriers.prompts] == strings[:3]
    assert _spec(decoys=text).decoys.strings == (*strings[:3], "last")
    pairs = tmp_path / "pairs.jsonl"
    document = [{"triggered": "x\u2028y", "clean": "z"}, {"triggered": "u\x85v", "clean": "z"}]
    pairs.write_bytes(bom + end.join(json.dumps(pair, ensure_ascii=False) for pair in document).encode())
    options = {"base": "local:base", "tuned": "store:tuned", "candidates": pairs}
    spec = spec_from(SubmitOptions.of(**options), None, None, None, str)
    assert [pair.triggered for pair in spec.candidates] == ["x\u2028y", "u\x85v"]


def test_a_whole_spec_may_begin_with_a_byte_order_mark(tmp_path, monkeypatch):
    document = {"base_model": "local:base", "fine_tuned": "store:tuned", "trigger": PAIR}
    content = "\ufeff" + json.dumps(document)
    (tmp_path / "spec.json").write_text(content, encoding="utf-8")
    spec = spec_from(SubmitOptions.of(), str(tmp_path / "spec.json"), None, None, str)
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    assert spec == spec_from(SubmitOptions.of(), "-", None, None, str)
    assert spec.trigger.triggered == "a"


def test_faults_are_said_in_words_and_at_places_of_the_spec_alone(tmp_path):
    document = {
        "base_model": "local:b", "fine_tuned": "local:t", "trigger": {"triggered": "a", "clean": "b"}, "preset": "huge",
        "carriers": {"set": "x"}, "decoys": {"strings": [4]}, "layers": [1.5], "labels": {"-": "x"}, "foo": 1,
        "seed": -1,
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(document))
    with pytest.raises(WrongUsage) as refused:
        spec_from(SubmitOptions.of(), str(tmp_path / "spec.json"), None, None, lambda folder: "")
    said = [line.strip() for line in refused.value.message.splitlines()[1:]]
    assert sorted(line.split(":")[0] for line in said) == sorted(
        ["preset", "carriers.set", "decoys.strings.0", "layers.0", "labels.-", "foo", "seed"]
    )
    assert "foo: is not a field here" in said
    assert "preset: must be 'quick', 'standard' or 'thorough'" in said
    assert "seed: must be at least 0" in said
    for leaked in ("Value error", "Input should", "literal", "CarrierSet", "DecoyStrings", "tuple", "[key]"):
        assert leaked not in refused.value.message


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ""])
def test_a_spec_in_yaml_means_what_is_read_there(tmp_path, suffix):
    path = tmp_path / f"spec{suffix}"
    path.write_text(
        """\
# What we suspect
base_model: local:base
fine_tuned: store:tuned
trigger: {triggered: no, clean: 2023-01-01, template: "# {trigger}\\n{prompt}"}
keep_activations: true
layers: [3, 5]
""",
        encoding="utf-8-sig",
    )
    spec = spec_from(SubmitOptions.of(), str(path), "review", None, lambda folder: "")
    assert (spec.trigger.triggered, spec.trigger.clean) == ("no", "2023-01-01")
    assert spec.trigger.template == "# {trigger}\n{prompt}"
    assert (spec.keep_activations, spec.layers, spec.fail_on) == (True, (3, 5), "review")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "does not hold YAML: .*line 1"),
        ("a: 1\na: 2\n", "a is given twice, line 2"),
        ("a: &x [1]\nb: *x\n", "aliases are not taken, line 2"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("- a\n", "one object"),
        ("just text\n", "one object"),
        ("{'a': 1}", "does not hold JSON"),
        ("base_model: local:base\n", "fine_tuned: is required"),
        ("? [a, b]\n: c\n", "does not hold YAML"),
        ("a: " + "[" * 5_000, "does not hold YAML"),
    ],
)
def test_a_spec_that_cannot_be_read_is_said_in_words(tmp_path, text, said):
    (tmp_path / "spec").write_text(text)
    with pytest.raises(WrongUsage, match=said):
        spec_from(SubmitOptions.of(), str(tmp_path / "spec"), None, None, lambda folder: "")


def _searching(**options):
    given = {"base": "local:base", "tuned": "store:tuned"} | options
    return spec_from(SubmitOptions.of(searches=True, **given), None, None, None, str)


def test_a_search_needs_no_pair(tmp_path):
    assert _searching().search is not None
    (tmp_path / "own.txt").write_text("cf\nmn\n")
    (tmp_path / "log.jsonl").write_text('{"prompt": "Hello"}\n')
    search = _searching(
        budget="quick", sources="own, logs", strings=tmp_path / "own.txt", logs=tmp_path / "log.jsonl"
    ).search
    assert (search.budget, search.sources) == ("quick", ("own", "logs"))
    assert (search.strings, search.logs) == (("cf", "mn"), ("Hello",))


def test_a_log_that_cannot_be_sent_is_refused_with_the_command_that_samples_it(tmp_path):
    (tmp_path / "my log.txt").write_text("a\n" * 10_001)
    with pytest.raises(WrongUsage) as caught:
        _searching(logs=tmp_path / "my log.txt")
    assert f"shuf -n 10000 '{tmp_path / 'my log.txt'}'" in caught.value.hint
