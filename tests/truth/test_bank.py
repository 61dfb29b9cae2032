"""A bank holds what each training alone would measure, however many go together and however often it is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import inflab
from inflab import Classification, truth
from inflab.corpus import batch
from inflab.errors import NumericsError, SettingError, StoreError
from inflab.truth import Recipe, stacked
from inflab.truth.material import Material, Trial
from inflab.truth.training import groups, measure_after
from tests import tiny
from tests.truth import small
from tests.truth.small import UPDATES, N, asked, classes, recipe

FEW: dict[str, Any] = {"subsets": 4, "seeds": 2, "progress": False}


def bank_of(made: Recipe | None = None, **settings: Any) -> xr.Dataset:
    return truth.retrain_bank(made or recipe(), classes(), asked(), **FEW | settings)


def alone(made: Recipe, train: xr.Dataset, queries: xr.Dataset, rows: np.ndarray, seed: int) -> np.ndarray:
    """Train one model, and ask it one query after the other."""
    model = made.train(train, rows=rows, seed=seed, progress=False).model
    found = []
    for number in range(queries.sizes["query"]):
        given = {name: torch.from_numpy(value) for name, value in batch(queries, np.array([number])).items()}
        given = {name: value.long() if value.dtype == torch.int32 else value for name, value in given.items()}
        with torch.no_grad():
            found.append(float(made.task.measure(made.task.forward(model, given), given)))
    return np.array(found)


@pytest.mark.parametrize("at_once", [1, 3, None])
@pytest.mark.parametrize("changed", UPDATES.values(), ids=UPDATES)
def test_every_cell_is_one_training(changed: dict[str, Any], at_once: int | None) -> None:
    made = recipe(**changed)
    bank = bank_of(made, at_once=at_once)
    for subset in range(4):
        rows = np.flatnonzero(bank["is_member"][subset].to_numpy())
        for seed in bank["seed"].to_numpy():
            expected = alone(made, classes(), asked(), rows, int(seed))
            tiny.agree(bank["measurement"].sel(subset=subset, seed=seed), expected, 1e-10)


@pytest.mark.parametrize("at_once", [None, 4])
def test_language_models_too(at_once: int | None) -> None:
    made, corpus, queries = small.language()
    bank = truth.retrain_bank(made, corpus, queries, **FEW, at_once=at_once)
    rows = np.flatnonzero(bank["is_member"][1].to_numpy())
    expected = alone(made, corpus, queries, rows, int(bank["seed"][1]))
    tiny.agree(bank["measurement"][1, 1], expected, 1e-9)


class Branching(nn.Module):
    """Looks at its numbers to decide: no vmap can run it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4).double()

    def forward(self, value: Tensor) -> Tensor:
        return self.body(value if value.sum() > 0 else -value)


class Coupled(nn.Module):
    """Looks at how many dims a batch has: stacked it would give other numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4).double()
        self.calls = 0

    def forward(self, value: Tensor) -> Tensor:
        return self.body(value) * (1.0 if torch._C._functorch.is_batchedtensor(value) else 2.0)


@pytest.mark.parametrize("kind", [Branching, Coupled])
def test_what_cannot_be_stacked_is_trained_alone(kind: type[nn.Module]) -> None:
    made = recipe(model=lambda seed: kind())
    assert stacked.how_many(Material(made, classes(), asked()), 8, None) == 1
    bank = bank_of(made)
    rows = np.flatnonzero(bank["is_member"][2].to_numpy())
    expected = alone(made, classes(), asked(), rows, int(bank["seed"][0]))
    tiny.agree(bank["measurement"][2, 0], expected, 1e-12)


def test_what_can_be_stacked_is() -> None:
    material = Material(recipe(), classes(), asked())
    trials = [Trial(np.arange(size), 0) for size in (5, 5, 7, 5, 7)]
    assert groups(material, trials) == [[0, 1, 3], [2, 4]]
    assert groups(material, trials, 2) == [[0, 1], [3], [2, 4]]
    dropping = recipe(model=lambda seed: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).double())
    assert all(len(group) == 1 for group in groups(Material(dropping, classes(), asked()), trials))


def test_frozen_weights_and_buffers_of_each_seed_are_its_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.rand(3).double())
            self.first, self.second = nn.Linear(3, 5).double(), nn.Linear(5, 4).double()
            self.first.requires_grad_(False)

        def forward(self, value: Tensor) -> Tensor:
            return self.second(torch.tanh(self.first(value * self.scale)))

    made = recipe(model=lambda seed: Scaled())
    assert stacked.how_many(Material(made, classes(), asked()), 8, None) == 8
    bank = bank_of(made)
    for seed in (0, 1):
        rows = np.flatnonzero(bank["is_member"][0].to_numpy())
        tiny.agree(bank["measurement"][0, seed], alone(made, classes(), asked(), rows, int(bank["seed"][seed])), 1e-10)


def test_subsets_and_seeds() -> None:
    bank = bank_of(fraction=0.3, subsets=6, seeds=3)
    assert bank["measurement"].dims == ("subset", "seed", "query")
    assert bank["is_member"].dtype == bool
    assert (bank["is_member"].sum("train") == round(0.3 * N)).all()
    assert len({tuple(row) for row in bank["is_member"].to_numpy().tolist()}) > 1
    assert len(set(bank["seed"].to_numpy().tolist())) == 3
    fewer = bank_of(fraction=0.3, subsets=2, seeds=2)
    assert np.array_equal(fewer["is_member"], bank["is_member"][:2])
    assert np.array_equal(fewer["seed"], bank["seed"][:2])
    tiny.agree(fewer["measurement"], bank["measurement"][:2, :2], 1e-10)
    assert not np.array_equal(bank_of(seed=1)["is_member"], bank_of()["is_member"])
    assert (bank["measurement"].std("seed") > 0).all()


def test_members_by_weight_keep_the_trajectory() -> None:
    made = recipe()
    bank = bank_of(made, by="weight")
    seed, weights = int(bank["seed"][1]), bank["is_member"].astype(float).rename(subset="set")
    expected = truth.reweighted(made, classes(), asked(), weights, seed=seed, progress=False)
    assert np.array_equal(bank["measurement"][:, 1], expected["measurement"])
    assert np.abs(bank["measurement"] - bank_of(made)["measurement"]).max() > 1e-3


def test_a_bank_is_saved_and_opened(tmp_path: Path) -> None:
    bank = bank_of()
    inflab.validate(bank)
    inflab.save(bank, tmp_path / "bank")
    xr.testing.assert_identical(inflab.load(tmp_path / "bank").load(), bank)
    assert json.loads(bank.attrs["recipe"]) == recipe().settings()
    assert bank.attrs["kind"] == "bank"


def test_measurements_are_float32_unless_the_model_is_float64() -> None:
    assert bank_of()["measurement"].dtype == np.float64
    assert bank_of(recipe(model=lambda seed: nn.Linear(3, 4)))["measurement"].dtype == np.float32


def test_measure_after_any_sets_of_rows() -> None:
    made, rows = recipe(), [np.array([5, 1, 2]), np.arange(N)]
    found = measure_after(made, classes(), asked(), rows, [4, 7], progress=False)
    for i, chosen in enumerate(rows):
        for j, seed in enumerate((4, 7)):
            tiny.agree(found[i, j], alone(made, classes(), asked(), chosen, seed), 1e-10)


# --- stores -----------------------------------------------------------------------------------------------------


class Stopping(Classification):
    """Ends after so many calls of its loss: by an error, or with its whole process."""

    def __init__(self, calls: int, *, kill: bool = False) -> None:
        super().__init__()
        object.__setattr__(self, "left", [calls, kill])

    def __repr__(self) -> str:
        return "Stopping()"

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        left: list[Any] = self.left  # type: ignore[attr-defined]
        left[0] -= 1
        if left[0] == 0:
            if left[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return super().loss(outputs, batch)


def stopping(calls: int, *, kill: bool = False) -> Recipe:
    return recipe(task=Stopping(calls, kill=kill))


CALLS = 6 + 1  # of the loss in one training alone, the measurement of the queries included


def test_a_bank_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    whole = bank_of(stopping(-1))
    with pytest.raises(KeyboardInterrupt):
        bank_of(stopping(3 * CALLS + 2), store=tmp_path / "bank", at_once=1)
    with pytest.raises(StoreError, match="is not finished"):
        inflab.load(tmp_path / "bank")
    rest = stopping(1 + 5 * CALLS)  # one call more, and it would stop
    found = bank_of(rest, store=tmp_path / "bank", at_once=1)
    assert rest.task.left[0] == 1  # type: ignore[attr-defined]
    tiny.agree(found["measurement"], whole["measurement"], 1e-10)
    assert list(tmp_path.iterdir()) == [tmp_path / "bank"]
    again = bank_of(stopping(1), store=tmp_path / "bank")
    xr.testing.assert_identical(again, found)
    xr.testing.assert_identical(inflab.load(tmp_path / "bank").load(), found)


def test_groups_may_change_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bank_of(stopping(3 * CALLS + 2), store=tmp_path / "bank", at_once=1)
    found = bank_of(stopping(-1), store=tmp_path / "bank", at_once=3)
    tiny.agree(found["measurement"], bank_of()["measurement"], 1e-10)


def test_a_killed_process_loses_no_finished_training(tmp_path: Path) -> None:
    code = (
        # Another package's `tests` may be installed.
        "import sys, types\n"
        "sys.modules['tests'] = types.ModuleType('tests')\n"
        "sys.modules['tests'].__path__ = ['tests']\n"
        "from tests.truth.test_bank import *\n"
        f"bank_of(stopping({4 * CALLS + 1}, kill=True), store={str(tmp_path / 'bank')!r}, at_once=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rest = stopping(1 + 4 * CALLS)
    found = bank_of(rest, store=tmp_path / "bank", at_once=1)
    assert rest.task.left[0] == 1  # type: ignore[attr-defined]
    tiny.agree(found["measurement"], bank_of()["measurement"], 1e-10)


def test_a_damaged_part_is_trained_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bank_of(stopping(3 * CALLS + 2), store=tmp_path / "bank", at_once=1)
    part = next((tmp_path / "bank.unfinished").glob("trainings.1.*"))
    part.write_bytes(part.read_bytes()[:-3])
    rest = stopping(1 + 6 * CALLS)
    found = bank_of(rest, store=tmp_path / "bank", at_once=1)
    assert rest.task.left[0] == 1  # type: ignore[attr-defined]
    tiny.agree(found["measurement"], bank_of()["measurement"], 1e-10)


OTHERS: dict[str, Any] = {
    "recipe.epochs": lambda store: bank_of(recipe(epochs=4), store=store),
    "recipe.model": lambda store: bank_of(recipe(model=lambda seed: small.perceptron(seed)), store=store),
    "corpus_fingerprint": lambda store: truth.retrain_bank(recipe(), classes(seed=5), asked(), **FEW, store=store),
    "queries_fingerprint": lambda store: truth.retrain_bank(recipe(), classes(), asked(3), **FEW, store=store),
    "fraction": lambda store: bank_of(fraction=0.4, store=store),
    "by": lambda store: bank_of(by="weight", store=store),
    "seed": lambda store: bank_of(seed=1, store=store),
    "subsets": lambda store: bank_of(subsets=5, store=store),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("what", "other"), OTHERS.items(), ids=OTHERS)
def test_another_bank_is_refused(what: str, other: Any, finished: bool, tmp_path: Path) -> None:
    store = tmp_path / "bank"
    bank_of(store=store)
    if not finished:
        manifest = json.loads((store / "zarr.json").read_text())["attributes"]["manifest"]
        folder = tmp_path / "bank.unfinished"
        folder.mkdir()
        held = {"identity": json.loads(manifest)["identity"], "token": "t", "settled": {}}
        (folder / "ledger.json").write_text(json.dumps(held))
        store.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=f"was begun with {what}"):
        other(store)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subsets": 0}, "subsets=0"),
        ({"seeds": 0}, "seeds=0"),
        ({"seed": -1}, "seed=-1"),
        ({"by": "size"}, "by='size'"),
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"fraction": 0.01}, "of 14 examples is 0"),
        ({"at_once": 0}, "at_once=0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        bank_of(**settings)


@pytest.mark.parametrize("at_once", [1, None])
def test_a_training_that_diverges_says_where(at_once: int | None) -> None:
    made = small.line(learning_rate=1e200)
    with pytest.raises(NumericsError, match=r"loss is inf at step 1 on train"):
        truth.retrain_bank(made, small.values(), small.values(3, "query"), **FEW, at_once=at_once)
