"""Leaving examples out is training without them: on ridge regression, known in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch import nn

import inflab
from inflab import Regression, truth
from inflab.errors import CorpusError, SettingError
from tests import tiny
from tests.truth import small
from tests.truth.small import N, asked, classes, recipe

MU = 0.3


def leave(groups: Any, corpus: xr.Dataset | None = None, **settings: Any) -> xr.Dataset:
    given = classes() if corpus is None else corpus
    return truth.leave_out(recipe(), given, asked(), groups, **{"progress": False, "seeds": 2} | settings)


def test_ridge_regression_in_closed_form() -> None:
    """Gradient descent on all that is left, to convergence."""
    train, queries, groups = small.values(), small.values(4, "query", seed=1), [[3], [0, 7, 9]]
    made = recipe(
        model=lambda seed: nn.Linear(3, 1, bias=False).double(), task=Regression("output"), epochs=200, batch_size=N,
        learning_rate=0.5, weight_decay=MU,
    )  # fmt: skip
    found = truth.leave_out(made, train, queries, groups, seeds=2, progress=False)
    x, y, ask = train["input"].to_numpy(), train["target"].to_numpy(), queries["input"].to_numpy()

    def solved(left: list[int]) -> np.ndarray:
        rows = np.setdiff1d(np.arange(N), left)
        gram = x[rows].T @ x[rows] + len(rows) * MU * np.eye(3)
        return (ask @ np.linalg.solve(gram, x[rows].T @ y[rows]))[:, 0]

    tiny.agree(found["baseline"], np.tile(solved([]), (2, 1)), 1e-9)
    tiny.agree(found["measurement"], np.stack([np.tile(solved(left), (2, 1)) for left in groups]), 1e-9)
    tiny.agree(found["change"], np.stack([solved(left) - solved([]) for left in groups]), 1e-9)
    assert (found["change_se"] < 1e-9).all()  # convex: the seed decides nothing


def test_each_seed_is_compared_with_itself() -> None:
    found = leave([[3], [5, 8]], seeds=3)
    inflab.validate(found)
    difference = (found["measurement"] - found["baseline"]).to_numpy()
    tiny.agree(found["change"], difference.mean(1), 1e-12)
    mean = difference.mean(1, keepdims=True)
    tiny.agree(found["change_se"], np.sqrt(((difference - mean) ** 2).sum(1) / 2 / 3), 1e-12)
    assert leave([[3]], seeds=1)["change_se"].isnull().all()
    for at, seed in enumerate(found["seed"].to_numpy()):
        model = recipe().train(classes(), rows=np.delete(np.arange(N), [5, 8]), seed=int(seed), progress=False).model
        given = tiny.table_problem(model)  # asks the model by another way: one pass with hooks
        tiny.agree(found["measurement"][1, at], _asked(given), 1e-10)


def _asked(problem: inflab.Problem) -> np.ndarray:
    import torch

    queries = asked()
    logits = problem.model(torch.from_numpy(queries["input"].to_numpy())).log_softmax(-1).detach().numpy()
    return np.take_along_axis(logits, queries["target"].to_numpy()[:, None], 1)[:, 0]


def test_groups_are_matched_by_id() -> None:
    ids = [f"e{i}" for i in range(N)]
    corpus = classes(ids=ids)
    listed = leave([["e2", "e11"], ["e4"]], corpus)
    is_left = np.zeros((2, N), bool)
    is_left[0, [2, 11]] = is_left[1, 4] = True
    array = xr.DataArray(is_left, dims=("group", "train"), coords={"train": ids, "group": ["two", "one"]})
    shuffled = array.isel(train=np.random.default_rng(0).permutation(N)).transpose("train", "group")
    found = leave(shuffled, corpus)
    assert np.array_equal(found["is_left_out"], is_left)
    assert found["group"].to_numpy().tolist() == ["two", "one"]
    for name in ("measurement", "baseline", "change"):
        assert np.array_equal(found[name], listed[name])
    part = leave(array.sel(train=["e4", "e2", "e11"]), corpus)
    assert np.array_equal(part["is_left_out"], is_left)


def test_it_goes_on_in_a_store(tmp_path: Path) -> None:
    found = leave([[1], [2, 3]], store=tmp_path / "left")
    xr.testing.assert_identical(inflab.load(tmp_path / "left").load(), found)
    tiny.agree(found["change"], leave([[1], [2, 3]])["change"], 1e-9)
    with pytest.raises(inflab.errors.StoreError, match="was begun with groups"):
        leave([[1], [2, 4]], store=tmp_path / "left")


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([], SettingError, "groups is empty"),
        ([1, 2], SettingError, "lists of train ids"),
        ("ab", SettingError, "lists of train ids"),
        ([[99]], CorpusError, "train 99, which is not in the corpus"),
        ([list(range(N))], CorpusError, "group 0 leaves everything out"),
        (xr.DataArray(np.ones((1, N)), dims=("group", "train")), SettingError, "dtype float64"),
        (xr.DataArray(np.ones((1, 3), bool), dims=("group", "train")), SettingError, "3 columns and no ids"),
        (xr.DataArray(np.ones((1, N), bool), dims=("set", "train")), SettingError, "dims"),
    ],
)
def test_bad_groups_are_refused(groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        leave(groups)
