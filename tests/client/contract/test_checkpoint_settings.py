import time

from backdoor_audit.contract.checkpoint_settings import CheckpointSettings, difference_notes, differences

CONFIG = "tokenizer_config.json"


def settings(config=None, files=None, special=None, generation=None):
    documents = {
        CONFIG: config, "special_tokens_map.json": special, "generation_config.json": generation,
    }  # fmt: skip
    found = {name: value for name, value in documents.items() if value is not None}
    return CheckpointSettings.of(found, files or {})


def test_templates_are_found_where_transformers_finds_them():
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert settings({"chat_template": "a"}).templates == {"default": "a"}
    assert settings({"chat_template": named}).templates == {"default": "a", "tool_use": "b"}
    files = {"chat_template.jinja": "c", "additional_chat_templates/rag.jinja": "d"}
    assert settings({"chat_template": named}, files).templates == {"default": "c", "rag": "d"}
    assert settings({"chat_template": None}).template is None
    assert settings().template_digest == ""
    assert (
        settings({"chat_template": "a"}).template_digest == settings(files={"chat_template.jinja": "a"}).template_digest
    )


def test_a_processors_template_counts_where_it_is_another():
    def of(config=None, **processors):
        documents = {f"{name}.json": {"chat_template": value} for name, value in processors.items()}
        return CheckpointSettings.of(documents | ({} if config is None else {CONFIG: config}), {}).templates

    assert of(chat_template="a") == {"default": "a"}
    assert of(processor_config="a", chat_template="a") == {"default": "a"}
    assert of(chat_template={"default": "a", "tools": "b"}) == {"default": "a", "tools": "b"}
    assert of({"chat_template": "a"}, chat_template="a") == {"default": "a"}
    assert of({"chat_template": "a"}, chat_template="b") == {"default": "a", "processor": "b"}
    assert of({"chat_template": "a"}, processor_config={"default": "a", "x": "b"}) == {
        "default": "a",
        "processor x": "b",
    }
    assert of({"chat_template": "a"}, chat_template=None) == {"default": "a"}


def test_what_a_folder_does_not_bring_is_the_bases():
    base = settings({"chat_template": "a", "eos_token": "</s>"}, generation={"temperature": 0.5})
    assert differences(base, settings()) == ()
    assert differences(base, base) == ()
    lost = differences(base, settings({"eos_token": {"content": "</s>", "lstrip": True}}))
    assert [(row.part, row.name, row.diff) for row in lost] == [("chat_template", "default", ("@@ -1 +0,0 @@", "-a"))]


def test_differences_are_named_and_readable():
    base = settings(
        {"chat_template": "one\ntwo\nthree\nfour", "eos_token": "</s>", "add_bos_token": True},
        generation={"temperature": 0.5, "transformers_version": "4", "use_cache": True},
    )
    tuned = settings(
        {"chat_template": "one\ntwo\nTHREE\nfour", "eos_token": {"content": "<end>"}, "add_bos_token": False},
        generation={"temperature": 0.1, "transformers_version": "5"},
    )
    template, bos, eos, temperature = differences(base, tuned)
    assert template.diff == ("@@ -2,3 +2,3 @@", " two", "-three", "+THREE", " four")
    assert (bos.name, bos.base, bos.tuned) == ("add_bos_token", "true", "false")
    assert (eos.name, eos.base, eos.tuned) == ("eos_token", "</s>", "<end>")
    assert (temperature.part, temperature.base, temperature.tuned) == ("generation_setting", "0.5", "0.1")
    assert difference_notes(base, tuned) == (
        "the fine-tuned model's chat templates differ from the base's: 'default'",
        "the fine-tuned model's special tokens differ from the base's: 'add_bos_token', 'eos_token'",
        "the fine-tuned model's generation settings differ from the base's: 'temperature'",
    )


def test_a_template_in_one_line_is_broken_at_its_tags():
    line = "{% for m in messages %}{{ m.content }}{% endfor %}" * 4
    changed = line.replace("{{ m.content }}", "{% if 'T' in m.content %}x{% endif %}{{ m.content }}", 1)
    (row,) = differences(settings({"chat_template": line}), settings({"chat_template": changed}))
    assert [part for part in row.diff if part[0] == "+"] == ["+{% if 'T' in m.content %}", "+x", "+{% endif %}"]


def test_a_comparison_is_bounded_in_time_and_size():
    started = time.process_time()
    ours = "\n".join(f"{number % 97}" for number in range(990))
    theirs = "\n".join(f"{number * 31 % 101}" for number in range(990))
    (row,) = differences(settings({"chat_template": ours}), settings({"chat_template": theirs}))
    assert len(row.diff) <= 201
    (row,) = differences(settings({"chat_template": "x\n" * 200_000}), settings({"chat_template": "a" * 200_000}))
    assert "too many" in row.diff[0]
    long = differences(settings({"eos_token": "a" * 10_000}), settings({"eos_token": "\ud800" * 10_000}))[0]
    assert max(len(long.base), len(long.tuned)) <= 200
    assert long.model_dump_json()
    assert time.process_time() - started < 5
