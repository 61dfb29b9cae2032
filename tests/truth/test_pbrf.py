"""Ways to ask for a response that change nothing, what is said when one is not found, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import inflab
from inflab import Classification, Problem, Task, adapters, truth, validate
from inflab.errors import CorpusError, LayerError, ModelError, NumericsError, SettingError

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

N = 12
EXACT: dict[str, Any] = {"damping": 0.05, "tolerance": 1e-9, "progress": False}


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Model(nn.Module):
    """A perceptron; where it `chooses`, by a number in it, so that several cannot run together."""

    def __init__(self, chooses: bool) -> None:
        super().__init__()
        self.first, self.second, self.chooses = nn.Linear(4, 6), nn.Linear(6, 3), chooses

    def forward(self, value: Tensor) -> Tensor:
        found = self.second(torch.tanh(self.first(value)))
        if self.chooses and bool(found.sum() > 1e9):
            found = -found
        return found


def problem(task: Task | None = None, *, chooses: bool = False) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(chooses).double().eval()
    corpus = adapters.from_arrays(drawn(N, 4, seed=1), np.arange(N) % 3)
    return Problem(model, task or Classification(), corpus.assign_coords(train=[f"t{i}" for i in range(N)]))


def queries() -> xr.Dataset:
    return adapters.from_arrays(drawn(5, 4, seed=2), np.arange(5) % 3, dim="query")


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return truth.pbrf(problem(), queries(), **EXACT)


def close(found: xr.Dataset, expected: xr.Dataset, rtol: float = 1e-6) -> None:
    a, b = found["influence"], expected["influence"].sel(train=found["train"])
    assert float(abs(a - b).max()) <= rtol * float(abs(b).max())


def test_result_is_labelled_scores(whole: xr.Dataset) -> None:
    validate(whole)
    assert dict(whole.sizes) == {"query": 5, "train": N}
    assert whole["train"].to_numpy().tolist() == [f"t{i}" for i in range(N)]
    assert whole.attrs["method"] == "PBRF"
    assert whole.attrs["n_train"] == N
    assert bool(whole["is_converged"].all())
    assert float(whole["gradient_norm"].max()) <= 1e-9
    assert int(whole["steps"].min()) >= 2
    top = inflab.top(whole, 2)
    assert top.sizes["rank"] == 2


def test_points_together_are_those_alone(whole: xr.Dataset) -> None:
    close(truth.pbrf(problem(), queries(), ["t7", "t2", "t9"], at_once=1, **EXACT), whole)
    close(truth.pbrf(problem(), queries(), at_once=5, **EXACT), whole)


def test_train_keeps_the_order_that_was_asked_for() -> None:
    assert truth.pbrf(problem(), queries(), ["t7", "t2"], **EXACT)["train"].to_numpy().tolist() == ["t7", "t2"]


def test_a_model_that_cannot_run_stacked(whole: xr.Dataset) -> None:
    close(truth.pbrf(problem(chooses=True), queries(), ["t7", "t2"], **EXACT), whole)


def test_the_seed_of_the_sketch_decides_nothing(whole: xr.Dataset) -> None:
    close(truth.pbrf(problem(), queries(), ["t7", "t2"], seed=5, **EXACT), whole)


def test_a_small_sketch_takes_longer_and_finds_the_same(whole: xr.Dataset) -> None:
    found = truth.pbrf(problem(), queries(), rank=3, **EXACT)
    close(found, whole)
    assert int(found["steps"].sum()) > int(whole["steps"].sum())


@pytest.mark.parametrize(("batch_size", "tolerance"), [(None, 1e-4), (6, 5e-2)])
def test_adam_finds_the_same(batch_size: int | None, tolerance: float) -> None:
    given = {"damping": 0.3, "progress": False}
    expected = truth.pbrf(problem(), queries(), ["t7", "t2"], tolerance=1e-9, **given)
    found = truth.pbrf(
        problem(), queries(), ["t7", "t2"], optimizer="adam", batch_size=batch_size, tolerance=tolerance, steps=400,
        **given,
    )  # fmt: skip
    assert bool(found["is_converged"].all())
    close(found, expected, 10 * tolerance)


def test_single_precision(whole: xr.Dataset) -> None:
    given = {**EXACT, "tolerance": 1e-3}
    close(truth.pbrf(problem(), queries(), ["t7", "t2"], dtype="float32", **given), whole, 2e-2)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_what_has_not_converged_is_said(optimizer: Any) -> None:
    with pytest.warns(UserWarning, match="the response of train 't7', 't2' has not converged.*more steps="):
        found = truth.pbrf(problem(), queries(), ["t7", "t2"], optimizer=optimizer, steps=2, **EXACT)
    assert not found["is_converged"].any()
    assert (found["gradient_norm"] > 1e-9).all()
    assert found["steps"].to_numpy().tolist() == [2, 2]
    assert np.isfinite(found["influence"]).all()


class Weighted(Classification):
    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return super().loss(outputs, batch) * batch.get("weight", torch.ones(1))


def test_an_example_without_gradient_has_no_response() -> None:
    given = problem(Weighted())
    weight = ("train", np.array([0.0] + [1.0] * (N - 1)))
    weighted = Problem(given.model, Weighted(), given.corpus.assign(weight=weight))
    found = truth.pbrf(weighted, queries(), ["t0", "t1"], **EXACT)
    assert (found["influence"].sel(train="t0") == 0).all()
    assert (found["influence"].sel(train="t1") != 0).all()
    assert bool(found["is_converged"].all())


def test_a_gradient_that_drowns_in_rounding_is_not_said_to_have_converged() -> None:
    with pytest.warns(UserWarning, match="has not converged"):
        found = truth.pbrf(problem(), queries(), ["t0"], dtype="float32", eps=1e-8, steps=20, progress=False)
    assert not found["is_converged"].any()


def test_the_model_comes_back_untouched() -> None:
    given = problem()
    given.model.first.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    truth.pbrf(given, queries(), ["t7"], **EXACT)
    assert all(value.equal(before[name]) for name, value in given.model.state_dict().items())
    flags = {name: p.requires_grad for name, p in given.model.named_parameters()}
    assert flags == {"first.weight": False, "first.bias": True, "second.weight": True, "second.bias": True}
    assert all(p.grad is None and p.dtype == torch.float64 for p in given.model.parameters())
    assert torch.is_grad_enabled()


def test_only_covered_layers_move(whole: xr.Dataset) -> None:
    given = problem()
    found = truth.pbrf(given, queries(), ["t7", "t2"], layers="second", **EXACT)
    features = given.model.first
    with torch.no_grad():
        inputs = [torch.tanh(features(torch.from_numpy(c["input"].to_numpy()))) for c in (given.corpus, queries())]
    corpus = given.corpus.assign(input=(("train", "feature6"), inputs[0].numpy()))
    asked = queries().assign(input=(("query", "feature6"), inputs[1].numpy()))
    head = Problem(nn.Sequential(given.model.second).eval(), Classification(), corpus)
    close(found, truth.pbrf(head, asked, ["t7", "t2"], **EXACT))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"damping": 0}, "damping=0 must be a positive number"),
        ({"damping": np.nan}, "damping=nan must be"),
        ({"tolerance": -1.0}, r"tolerance=-1.0 must be"),
        ({"eps": 0}, "eps=0 must be a number other than 0"),
        ({"eps": np.inf}, "eps=inf must be"),
        ({"symmetric": 1}, "symmetric=1 must be True or False"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is not one of 'lbfgs', 'adam'"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16' is not one of 'float64', 'float32'"),
        ({"batch_size": 4}, "batch_size=4 belongs to optimizer='adam'"),
        ({"batch_size": 0, "optimizer": "adam"}, "batch_size=0 must be a whole number"),
        ({"rank": 0}, "rank=0 must be a whole number"),
        ({"steps": 1}, "steps=1 must be a whole number, at least 2"),
        ({"learning_rate": 0}, "learning_rate=0 must be"),
        ({"at_once": 0}, "at_once=0 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"train": []}, r"train=\[\] must be a list of train ids"),
        ({"train": "t7"}, "train='t7' must be a list of train ids"),
        ({"train": ["t7", "t7"]}, "train holds an id twice"),
    ],
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        truth.pbrf(problem(), queries(), **({"progress": False} | setting))


def test_bad_input() -> None:
    with pytest.raises(SettingError, match="problem is a Model; expected an inflab.Problem"):
        truth.pbrf(problem().model, queries())  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="train names 't99', which is not in the corpus"):
        truth.pbrf(problem(), queries(), ["t1", "t99"])
    with pytest.raises(CorpusError, match="runs over 'train'"):
        truth.pbrf(problem(), queries().rename(query="train"))
    with pytest.raises(LayerError):
        truth.pbrf(problem(), queries(), layers="third")
    away = problem()
    away.model.first.to("meta")
    with pytest.raises(ModelError, match="weights of 'first.weight' are offloaded"):
        truth.pbrf(away, queries())


class Steep(Classification):
    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return super().loss(outputs, batch) + (outputs - outputs.detach()).square().sum(1).sqrt()


def test_a_loss_without_a_gradient_at_the_start() -> None:
    with pytest.raises(NumericsError, match="the loss of train 't0', or its gradient, is NaN or infinite"):
        truth.pbrf(problem(Steep()), queries(), ["t7"], progress=False)
