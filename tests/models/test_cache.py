"""A model is trained once for one recipe; nothing stale, half written or damaged is ever given out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from inflab import models
from inflab.errors import StoreError
from inflab.models import cache, recipes, training
from inflab.models.recipes import Recipe
from tests.models.small import OPTIONS, TINY, same

LOAD: dict[str, Any] = {"progress": False, **OPTIONS}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry a training that really takes place."""
    done: list[str] = []
    real = training.train

    def counted(*args: Any, **settings: Any) -> Any:
        done.append(settings["label"])
        return real(*args, **settings)

    monkeypatch.setattr(training, "train", counted)
    return done


def folder(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "models").iterdir()
    return found


def test_trained_once_then_read(tiny: Recipe, trainings: list[str]) -> None:
    (first, one), (second, two) = models.load("tiny", **LOAD), models.load("tiny", **LOAD)
    assert trainings == ["training tiny"]
    assert same(first, second)
    assert not first.training
    assert not second.training
    assert one.get_vocab() == two.get_vocab()
    assert two.eos_token == "<|endoftext|>"
    ids = torch.tensor([two("The capital city of Astrobia is")["input_ids"]])
    assert torch.equal(first(ids).logits, second(ids).logits)


def test_anything_that_matters_makes_another_model(
    tiny: Recipe, trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(**settings: Any) -> None:
        models.load("tiny", **{**LOAD, **settings})

    load()
    load(seed=1)
    assert len(trainings) == 2
    load(direction="reversed")
    assert len(trainings) == 3
    for change in (
        {"training": {**TINY.training, "learning_rate": 1e-4}},
        {"config": {**TINY.config, "n_embd": 8}},
        {"family": "llama", "config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                                       "num_attention_heads": 2}},
    ):  # fmt: skip
        monkeypatch.setitem(recipes.RECIPES, "tiny", dataclasses.replace(TINY, **change))
        before = len(trainings)
        load()
        load()
        assert len(trainings) == before + 1, change
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.setattr(models.loading, "version", lambda package: "0.0")
    load()
    assert len(trainings) == 7


def test_changed_training_code_makes_another_model(
    tiny: Recipe, trainings: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models.load("tiny", **LOAD)
    changed = tmp_path / "training.py"
    changed.write_bytes(Path(training.__file__).read_bytes() + b"# another word\n")
    monkeypatch.setattr(training, "__file__", str(changed))
    models.load("tiny", **LOAD)
    assert len(trainings) == 2


def test_retrain_makes_it_anew(tiny: Recipe, trainings: list[str]) -> None:
    first, _ = models.load("tiny", **LOAD)
    again, _ = models.load("tiny", retrain=True, **LOAD)
    assert len(trainings) == 2
    assert same(first, again)


def truncate(place: Path) -> None:
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def flip_one_bit(place: Path) -> None:
    content = bytearray((place / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "model.safetensors").write_bytes(content)


def forge(place: Path) -> None:
    card = json.loads((place / "card.json").read_text())
    card["made_from"]["seed"] = 99
    (place / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (truncate, "model.safetensors has SHA-256"),
        (flip_one_bit, "model.safetensors has SHA-256"),
        (forge, "card.json describes another model"),
        (lambda place: (place / "card.json").unlink(), "card.json is missing"),
        (lambda place: (place / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda place: (place / "card.json").write_text('{"made_from": '), "cannot be read"),
        (lambda place: (place / "card.json").write_text("[]"), "card.json describes another model"),
    ],
)
def test_a_damaged_model_is_reported_and_made_anew(
    harm: Any, says: str, tiny: Recipe, trainings: list[str], tmp_path: Path
) -> None:
    first, _ = models.load("tiny", **LOAD)
    harm(folder(tmp_path))
    with pytest.warns(UserWarning, match=f"cached model tiny-.* is damaged .*{says}.*making it anew"):
        again, _ = models.load("tiny", **LOAD)
    assert len(trainings) == 2
    assert same(first, again)
    models.load("tiny", **LOAD)
    assert len(trainings) == 2
    assert folder(tmp_path).name.startswith("tiny-")


def test_an_interrupted_write_leaves_nothing(
    tiny: Recipe, trainings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def interrupted(model: Any, file: str, **_: Any) -> None:
        Path(file).write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            models.load("tiny", **LOAD)
    assert list((tmp_path / "models").iterdir()) == []
    models.load("tiny", **LOAD)
    assert len(trainings) == 2


def test_what_a_killed_process_left_is_no_model(tiny: Recipe, tmp_path: Path, trainings: list[str]) -> None:
    models.load("tiny", **LOAD)
    place = folder(tmp_path)
    shutil.move(place, place.parent / ".part-abc")
    models.load("tiny", **LOAD)
    assert len(trainings) == 2


def test_another_process_that_was_faster_is_welcome(tmp_path: Path, tiny: Recipe) -> None:
    model, tokenizer = models.load("tiny", **LOAD)
    place = folder(tmp_path)
    made_from = json.loads((place / "card.json").read_text())["made_from"]
    slower = tmp_path / "slower"
    slower.mkdir()
    (slower / "model.safetensors").write_bytes(b"")
    real_exists = Path.exists
    with pytest.MonkeyPatch.context() as patch:
        # The other's folder appears between the look and the move.
        patch.setattr(Path, "exists", lambda path, **more: path != place and real_exists(path, **more))
        cache._put(slower, place, made_from)
        with pytest.raises(OSError):
            cache._put(slower, place, {**made_from, "seed": 99})
    assert cache.damage(place, made_from) is None


def test_global_random_numbers_are_untouched_by_miss_and_hit(tiny: Recipe) -> None:
    state = torch.get_rng_state()
    for _ in range(2):
        models.load("tiny", **LOAD)
        assert torch.equal(torch.get_rng_state(), state)


def test_a_cached_model_is_a_folder_of_transformers(tiny: Recipe, tmp_path: Path) -> None:
    model, _ = models.load("tiny", **LOAD)
    found, tokenizer = models.load(folder(tmp_path))
    assert same(model, found)
    assert tokenizer("Astrobia")["input_ids"]


def test_the_card_says_how_the_model_was_made(tiny: Recipe, tmp_path: Path) -> None:
    models.load("tiny", seed=2, **LOAD)
    card = json.loads((folder(tmp_path) / "card.json").read_text())
    assert card["made_from"]["seed"] == 2
    assert card["made_from"]["training"] == TINY.training
    assert set(card["made_from"]["versions"]) == {"torch", "transformers", "tokenizers", "numpy"}
    assert card["report"]["options"] == OPTIONS
    assert card["report"]["last loss"] > 0
    assert not [file for file in folder(tmp_path).iterdir() if file.suffix in (".bin", ".pt", ".pkl")]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLAB_CACHE", str(tmp_path / "from environment"))
    assert cache.cache_root(None) == tmp_path / "from environment" / "models"
    assert cache.cache_root(tmp_path / "given") == tmp_path / "given" / "models"
    monkeypatch.delenv("INFLAB_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "user" / name))
    assert cache.cache_root(None) == tmp_path / "user" / "inflab" / "models"


def test_a_cache_that_cannot_be_written_is_refused_before_training(
    tiny: Recipe, trainings: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cache .* cannot be written .*pass cache=, or set INFLAB_CACHE"):
        models.load("tiny", cache=tmp_path / "file", **LOAD)
    assert trainings == []
