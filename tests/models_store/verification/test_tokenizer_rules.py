import json

import pytest

from models_store.errors import ModelRejected
from models_store.verification.verify import verify_checkpoint


def with_settings(folder, **settings):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tokenizer_class": "../evil"}, "is not the name of a class"),
        ({"chat_template": "x" * 300_000}, "longer than"),
        ({"chat_template": [{"name": "a", "template": "x" * 300_000}]}, "longer than"),
        ({"chat_template": [{"name": "a"}]}, "not a list of named templates"),
        ({"chat_template": 5}, "not text"),
        ({"bos_token": {"content": "<s>", "file": "x"}}, "'bos_token' is not a token"),
        ({"added_tokens_decoder": {"0": 5}}, "not a list of tokens"),
    ],
)
def test_settings_with_values_that_they_cannot_have_are_refused(make_model, settings, reason):
    with pytest.raises(ModelRejected, match=f"tokenizer_config.json: .*{reason}") as caught:
        verify_checkpoint(with_settings(make_model(), **settings))
    assert caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab_file": "../../.env"},
        {"tokenizer_file": "/etc/passwd"},
        {"fast_tokenizer_files": ["tokenizer.1.json"]},
        {"spm_file": "x"},
        {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
        {"surprise": 1},
        {"sp_model_kwargs": {"model_file": "x"}},
        {"padding": {"a": {}}},
    ],
)
def test_settings_that_name_files_or_code_are_left_out_and_named(make_model, settings):
    verified = verify_checkpoint(with_settings(make_model(), bos_token="<s>", **settings))
    assert verified.documents["tokenizer_config.json"] == {"bos_token": "<s>"}
    assert next(iter(settings)) in "".join((*verified.rewritten, *verified.warnings))


def test_settings_that_older_releases_wrote_are_taken(make_model):
    token = {"content": "<s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    folder = with_settings(
        make_model(),
        add_bos_token=True,
        added_tokens_decoder={"0": {**token, "special": True}},
        additional_special_tokens=["<a>", token],
        bos_token={"__type": "AddedToken", **token},
        chat_template=[{"name": "default", "template": "{{ messages }}"}],
        clean_up_tokenization_spaces=False,
        legacy=None,
        model_max_length=10**30,
        pad_token=None,
        sp_model_kwargs={},
        tokenizer_class="LlamaTokenizer",
        tokenizer_file=None,
        vocab_file=None,
    )
    assert verify_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tokenizer.json", '{"model": {}, "import": "x"}', "'import' is not on the list"),
        ("tokenizer.json", "{}", "holds no 'model'"),
        ("tokenizer.json", "not json", "not valid JSON"),
        ("special_tokens_map.json", '{"bos_token": {"path": "x"}}', "'bos_token' is not a token"),
        ("added_tokens.json", '{"<a>": "x"}', "not a list of tokens"),
    ],
)
def test_the_other_files_are_checked_too(make_model, name, text, reason):
    folder = make_model()
    (folder / name).write_text(text)
    with pytest.raises(ModelRejected, match=f"{name}: .*{reason}"):
        verify_checkpoint(folder)


def test_special_tokens_alone_are_kept(make_model):
    folder = make_model()
    (folder / "special_tokens_map.json").write_text('{"vocab_file": "x", "bos_token": "<s>"}')
    assert verify_checkpoint(folder).documents["special_tokens_map.json"] == {"bos_token": "<s>"}


def test_template_files_are_bounded_and_text(make_model):
    folder = make_model()
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelRejected, match=r"chat_template\.jinja: is not UTF-8"):
        verify_checkpoint(folder)
    (folder / "chat_template.jinja").write_text("x" * 300_000)
    with pytest.raises(ModelRejected, match=r"chat_template\.jinja: has 300000 bytes"):
        verify_checkpoint(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")
    names = [file.name for file in verify_checkpoint(folder).files]
    assert names[0] == "additional_chat_templates/tool.jinja"
    (folder / "additional_chat_templates" / "other.txt").write_text("")
    assert verify_checkpoint(folder).ignored == ("additional_chat_templates/",)


def test_an_adapters_tokenizer_is_optional_but_checked(make_adapter):
    folder = make_adapter()
    assert verify_checkpoint(folder)
    with pytest.raises(ModelRejected, match="not a token"):
        verify_checkpoint(with_settings(folder, bos_token=[{}, 1]))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 2**31}, "unk_token": "<unk>"}},
        {"model": {"type": "BPE", "vocab": {"a": 10**7}, "merges": []}},
        {"added_tokens": [{"id": 2**32 - 1, "content": "x"}]},
    ],
)
def test_numbers_that_no_vocabulary_has_are_refused(make_model, edit_json, changes):
    """The library writes a vocabulary down number by number, and ends its process when memory runs out."""
    folder = make_model()
    edit_json(folder / "tokenizer.json", **changes)
    with pytest.raises(ModelRejected, match=r"tokenizer\.json: a token has the number"):
        verify_checkpoint(folder)
