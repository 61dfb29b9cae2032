"""Checkpoints are refused where they do not fit, and what followed training is not opened with another training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inflab import SOURCE, Checkpoint, Problem, TracIn, load
from inflab.errors import InflabError, ModelError, SettingError, StoreError
from tests import tiny


def state(shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {name: value + shift for name, value in tiny.mlp().state_dict().items()}


def problem(checkpoints: Any = None) -> Problem:
    if checkpoints is None:
        checkpoints = [Checkpoint(state(0.1 * n), 0.1, 2) for n in range(2)]
    return Problem(tiny.mlp(), tiny.table_problem().task, tiny.table(), checkpoints=checkpoints)


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state().items() if key != name}


BAD: dict[str, tuple[Any, type[InflabError], str]] = {
    "rate of zero": (lambda: Checkpoint(state(), 0, 1), SettingError, "learning_rate=0"),
    "rate of NaN": (lambda: Checkpoint(state(), float("nan"), 1), SettingError, "learning_rate=nan"),
    "no steps": (lambda: Checkpoint(state(), 0.1, 0), SettingError, "steps=0"),
    "half a step": (lambda: Checkpoint(state(), 0.1, 1.5), SettingError, "steps=1.5"),
    "a model as state": (lambda: Checkpoint(tiny.mlp(), 0.1, 1), SettingError, "state_dict"),
    "no file": (lambda: Checkpoint("nowhere.safetensors", 0.1, 1), SettingError, "no file"),
    "another file": (lambda: problem([Checkpoint(__file__, 0.1, 1)]), SettingError, "no safetensors file"),
    "a state, no checkpoint": (lambda: problem([state()]), SettingError, "inflab.Checkpoint"),
    "one checkpoint, no list": (lambda: problem(Checkpoint(state(), 0.1, 1)), SettingError, "a list"),
    "unknown name": (
        lambda: problem([Checkpoint(state() | {"9.weight": torch.ones(1)}, 0.1, 1)]),
        ModelError,
        "9.weight",
    ),
    "missing name": (lambda: problem([Checkpoint(without("2.bias"), 0.1, 1)]), ModelError, "lacks '2.bias'"),
    "nothing": (lambda: problem([Checkpoint({}, 0.1, 1)]), ModelError, "lacks"),
    "other shape": (lambda: problem([Checkpoint(state() | {"2.bias": torch.ones(9)}, 0.1, 1)]), ModelError, r"\[9\]"),
    "another model": (lambda: problem().at(Checkpoint({"w": torch.ones(1)}, 0.1, 1)), ModelError, "'w'"),
    "TracIn without": (lambda: tiny.fit(problem([]), TracIn()), SettingError, "no checkpoints"),
    "SOURCE without": (lambda: tiny.fit(problem([]), SOURCE()), SettingError, "no checkpoints"),
    "too many segments": (lambda: tiny.fit(problem(), SOURCE(segments=3)), SettingError, "segments=3"),
    "segments of zero": (lambda: SOURCE(segments=0), SettingError, "segments=0"),
    "steps of a method": (lambda: TracIn(steps=1), SettingError, "steps=1"),
    "an index": (lambda: tiny.fit(problem(), TracIn()).index("x", size=0.1), SettingError, "ask a member"),
    "a plan": (lambda: tiny.fit(problem(), SOURCE()).plan(tiny.table(2, "query")), SettingError, "plan a member"),
    "unknown by": (lambda: tiny.fit(problem(), SOURCE()).self_influence(by="block"), SettingError, "block"),
    "store of own influence": (lambda: tiny.fit(problem(), SOURCE()).self_influence(store="x"), SettingError, "store="),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()


def test_a_file_is_as_good_as_its_tensors(tmp_path: Path) -> None:
    save_file(state(0.3), tmp_path / "end.safetensors")
    held, filed = Checkpoint(state(0.3), 0.1, 2), Checkpoint(tmp_path / "end.safetensors", 0.1, 2)
    assert held.fingerprint() == filed.fingerprint()
    asked = tiny.table(2, "query", 1)
    expected = tiny.scores(problem([held]), asked, TracIn())
    assert np.array_equal(tiny.scores(problem([filed]), asked, TracIn()), expected)


def test_every_part_of_a_checkpoint_counts() -> None:
    found = {
        Checkpoint(s, rate, steps).fingerprint()
        for s, rate, steps in ((state(), 0.1, 2), (state(0.1), 0.1, 2), (state(), 0.2, 2), (state(), 0.1, 3))
    }
    assert len(found) == 4


def test_frozen_weights_need_not_be_there() -> None:
    model = tiny.mlp()
    model[0].requires_grad_(False)
    part = {name: value + 1 for name, value in state().items() if name.startswith("2")}
    whole = Problem(model, tiny.table_problem().task, tiny.table(), checkpoints=[Checkpoint(part, 0.1, 1)])
    there = whole.at(whole.checkpoints[0]).model
    assert torch.equal(there[0].weight, model[0].weight)
    assert torch.equal(there[2].weight, model[2].weight + 1)


def test_a_shared_weight_may_have_one_name() -> None:
    held = {name: value + 1 for name, value in tiny.gpt2().state_dict().items() if name != "lm_head.weight"}
    model = tiny.gpt2()
    found = Problem(model, tiny.language_problem().task, tiny.corpus(), checkpoints=[Checkpoint(held, 0.1, 1)])
    there = found.at(found.checkpoints[0]).model
    assert torch.equal(there.lm_head.weight, model.lm_head.weight + 1)


@pytest.mark.parametrize("method", [TracIn(steps=True), SOURCE(), SOURCE(segments=1)])
def test_what_followed_training_is_opened_with_that_training(method: Any, tmp_path: Path) -> None:
    asked = tiny.table(2, "query", 1)
    with tiny.untouched((whole := problem()).model):
        influence = tiny.fit(whole, method)
        expected = influence.score(asked, progress=False)
        influence.self_influence(progress=False)
    influence.save(tmp_path / "fit")
    opened: Any = load(tmp_path / "fit", problem())
    assert opened.method == method and type(opened) is type(influence)
    again = opened.score(asked, progress=False)
    assert np.array_equal(again["influence"], expected["influence"])
    assert again.attrs["method"] == type(method).__name__
    other = problem([Checkpoint(state(0.1 * n), 0.1, 3) for n in range(2)])
    with pytest.raises(StoreError, match="checkpoints with fingerprint"):
        load(tmp_path / "fit", other)
    assert "2 checkpoints" in repr(whole)


def test_a_fit_of_other_checkpoints_does_not_go_on(tmp_path: Path) -> None:
    tiny.fit(problem(), TracIn(), store=tmp_path / "fit")
    other = problem([Checkpoint(state(0.1 * n), 0.1, 3) for n in range(2)])
    with pytest.raises(StoreError, match="checkpoints_fingerprint"):
        tiny.fit(other, TracIn(), store=tmp_path / "fit")


def test_each_checkpoint_keeps_its_own_store(tmp_path: Path) -> None:
    asked = tiny.table(2, "query", 1)
    influence = tiny.fit(problem(), TracIn())
    found = influence.score(asked, progress=False, store=tmp_path / "scores")
    assert np.array_equal(found["influence"], influence.score(asked, progress=False)["influence"])
    part: Any = load(tmp_path / "scores" / "checkpoint-1")
    assert part.attrs["method"] == "Identity"
    again = influence.score(asked, progress=False, store=tmp_path / "scores")
    assert again.attrs["shards_computed"] == 0 < again.attrs["shards_resumed"]
