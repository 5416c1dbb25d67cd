def test_an_empty_models_root_has_no_models(served):
    assert served.http.get("/models").json() == {"models": []}


def test_models_are_listed_without_paths(serve, toy_models):
    served = serve(models_root=toy_models)
    answer = served.http.get("/models")
    models = {model["reference"]: model for model in answer.json()["models"]}
    assert models["local:base"]["kind"] == "full"
    assert models["local:base"]["architecture"] == "llama"
    assert models["local:adapter"]["kind"] == "lora"
    assert all(model["size_bytes"] > 0 and model["refused"] is None for model in models.values())
    assert str(toy_models) not in answer.text


def test_a_refused_model_says_why(serve, tmp_path):
    served = serve()
    (tmp_path / "models" / "pickled").mkdir()
    (tmp_path / "models" / "pickled" / "config.json").write_text("{}")
    (tmp_path / "models" / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    (model,) = served.http.get("/models").json()["models"]
    assert model["refused"]
    assert model["kind"] is None
    assert str(tmp_path) not in model["refused"]
