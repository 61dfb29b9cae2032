"""Methods that solve when they are asked answer every question that the others do, and refuse what they cannot.

Solutions depend on the seed, not on how the work is cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import inflab
from inflab import ASTRA, CG, Influence, LiSSA
from inflab.errors import NumericsError, SettingError
from tests import tiny

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

METHODS: dict[str, Any] = {
    "CG": CG(steps=4),
    "ASTRA": ASTRA(steps=3, batch_size=3, alpha=0.02),
    "LiSSA": LiSSA(steps=2, batch_size=3, repeats=2, alpha=0.01),
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def asked(problem: Any, method: Any, **settings: Any) -> xr.Dataset:
    return tiny.fit(problem, method).score(tiny.table(5, "query", 1), progress=False, **settings)


@each_method
def test_blocks_batches_and_memory_change_nothing(method: Any) -> None:
    problem = tiny.table_problem(tiny.mlp().double())
    expected = asked(problem, method)
    for settings in ({"batch_size": 2}, {"memory": "20kB"}, {"memory": "60kB"}):
        found = asked(problem, method, **settings)
        tiny.agree(found["influence"], expected["influence"], 1e-8)
        tiny.agree(found["solver_residual"], expected["solver_residual"], 1e-6)
    one = tiny.fit(problem, method).score(tiny.table(5, "query", 1).isel(query=[3]), progress=False)
    tiny.agree(one["influence"], expected["influence"][[3]], 1e-8)


@each_method
def test_padding_and_order_change_nothing(method: Any) -> None:
    problem = tiny.language_problem(tiny.gpt2(n_embd=8, n_layer=1).double())
    influence = tiny.fit(problem, method)
    expected = influence.score(tiny.queries(), progress=False)["influence"]
    alone = influence.score(tiny.queries().isel(query=[1]), progress=False)["influence"]
    tiny.agree(alone, expected[[1]], 1e-8)
    turned = influence.score(tiny.queries().isel(query=[1, 0]), progress=False)["influence"]
    tiny.agree(turned, expected[[1, 0]], 1e-8)


@each_method
def test_copies_of_a_query_tie(method: Any) -> None:
    queries = tiny.table(5, "query", 1).isel(query=[0, 1, 0]).assign_coords(query=["a", "b", "a again"])
    found = tiny.fit(tiny.table_problem(), method).score(queries, progress=False)["influence"]
    tiny.agree(found.sel(query="a again"), found.sel(query="a"), 1e-5)


@each_method
def test_the_seed_decides(method: Any) -> None:
    problem, queries = tiny.table_problem(), tiny.table(5, "query", 1)
    first, again, other = (
        tiny.fit(problem, method, seed=seed).score(queries, progress=False)["influence"] for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not first.equals(other)


@each_method
def test_a_saved_fit_answers_as_before(method: Any, tmp_path: Path) -> None:
    problem, queries = tiny.table_problem(), tiny.table(5, "query", 1)
    fitted = tiny.fit(problem, method, seed=3)
    fitted.save(tmp_path / "fit")
    back = inflab.load(tmp_path / "fit", problem)
    assert isinstance(back, Influence) and type(back) is type(fitted) and back.method == method
    for made in (lambda i: i, lambda i: i.with_damping(0.7), lambda i: i.with_damping(0.7, "absolute")):
        expected, found = (made(i).score(queries, progress=False) for i in (fitted, back))
        assert found.drop_attrs().identical(expected.drop_attrs())


@each_method
def test_stores_hold_the_same(method: Any, tmp_path: Path) -> None:
    problem, queries = tiny.table_problem(), tiny.table(5, "query", 1)
    influence = tiny.fit(problem, method, store=tmp_path / "fit")
    expected = influence.score(queries, progress=False)
    kept = influence.score(queries, progress=False, store=tmp_path / "scores")
    tiny.agree(kept["influence"], expected["influence"], 1e-5)
    tiny.agree(kept["solver_residual"], expected["solver_residual"], 1e-4)
    again = influence.score(queries, progress=False, store=tmp_path / "scores")
    assert again["influence"].equals(kept["influence"])
    assert again["solver_residual"].isnull().all(), "nothing was solved"
    own = influence.self_influence(progress=False)
    held = influence.self_influence(progress=False, store=tmp_path / "own")
    tiny.agree(held["influence"], own["influence"], 1e-5)
    tiny.agree(held["solver_residual"], own["solver_residual"], 1e-4)


@each_method
def test_layers_ranks_and_candidates(method: Any) -> None:
    influence = tiny.fit(tiny.language_problem(tiny.gpt2(n_layer=1).double()), method)
    queries = tiny.queries()
    exact = influence.score(queries, progress=False)
    apart = influence.score(queries, by="layer", progress=False)
    tiny.agree(apart["influence"].sum("layer"), exact["influence"], 1e-9)
    for truncation in ("plain", "whitened"):
        full = influence.score(queries, rank=64, truncation=truncation, progress=False)
        tiny.agree(full["influence"], exact["influence"], 1e-9)
        low = influence.score(queries, rank=1, truncation=truncation, progress=False)
        assert (low["truncation_error"] > 0).all() and not low["influence"].equals(exact["influence"])
        near = influence.score(queries, rank=12, truncation=truncation, progress=False)
        assert (near["truncation_error"] < low["truncation_error"]).all()
    again = influence.score(queries, rank=1, rescore=2, progress=False)
    is_exact = again["is_exact"].to_numpy()
    tiny.agree(again["influence"].to_numpy()[is_exact], exact["influence"].to_numpy()[is_exact], 1e-9)
    some = inflab.top(exact, 2)
    found = influence.score(queries, candidates=some, progress=False)["influence"].to_numpy()
    assert np.isfinite(found).sum() == 4
    there = exact["influence"].sel(train=influence.score(queries, candidates=some, progress=False)["train"])
    tiny.agree(found[np.isfinite(found)], there.to_numpy()[np.isfinite(found)], 1e-9)


@each_method
@pytest.mark.parametrize("view", ["update", "output"])
def test_tokens_sum_to_the_scores(method: Any, view: Any) -> None:
    influence = tiny.fit(tiny.language_problem(tiny.gpt2(n_layer=1).double()), method)
    scores = influence.score(tiny.queries(), progress=False)
    best = inflab.top(scores, 2)
    tokens = influence.attribute(tiny.queries(), best, view=view, progress=False)["influence"]
    dims = [dim for dim in tokens.dims if dim not in ("query", "rank")]
    tiny.agree(tokens.sum(dims), best["influence"], 1e-8)


@each_method
def test_self_influence_is_not_negative(method: Any) -> None:
    influence = tiny.fit(tiny.table_problem(), method)
    found = influence.self_influence(progress=False)
    assert (found["influence"] > 0).all()
    apart = influence.self_influence(by="layer", progress=False)
    tiny.agree(apart["influence"].sum("layer"), found["influence"], 1e-5)
    inflab.validate(found)


@each_method
def test_the_model_comes_back_untouched(method: Any) -> None:
    for problem, queries in (
        (tiny.table_problem(), tiny.table(2, "query", 1)),
        (tiny.language_problem(), tiny.queries()),
    ):
        influence = tiny.fit(problem, method)
        with tiny.untouched(problem.model), torch.inference_mode():
            first = influence.score(queries, progress=False)
        with tiny.untouched(problem.model), torch.no_grad():
            assert influence.score(queries, progress=False)["influence"].equals(first["influence"])
        assert torch.backends.cuda.flash_sdp_enabled(), "attention kernels are as they were"


def test_an_index_and_pairs_of_tokens_are_refused(tmp_path: Path) -> None:
    influence = tiny.fit(tiny.language_problem(), CG())
    top = inflab.top(tiny.scored(), 1)
    for refused, what in (
        (lambda: influence.index(tmp_path / "index", size=0.1), "an index"),
        (lambda: influence.open_index(tmp_path / "index"), "an index"),
        (lambda: influence.attribute(tiny.queries(), top, pairs=True), "pairs=True"),
    ):
        with pytest.raises(SettingError, match=f"{what} needs a curvature that is diagonal.*CG solves for all layers"):
            refused()
    assert not list(tmp_path.iterdir())


def test_max_examples_bound_the_matrix() -> None:
    problem = tiny.table_problem(tiny.mlp().double())
    few = CG(max_examples=4, damping=0.1, damping_kind="absolute", steps=60, tolerance=1e-12)
    found = tiny.fit(problem, few).score(tiny.table(5, "query", 1), progress=False)["influence"]
    rows = np.sort(np.random.default_rng(0).choice(12, 4, replace=False))
    part = tiny.table_problem(tiny.mlp().double(), tiny.table().isel(train=rows))
    whole = CG(damping=0.1, damping_kind="absolute", steps=60, tolerance=1e-12)
    expected = tiny.fit(part, whole).score(tiny.table(5, "query", 1), train=tiny.table(), progress=False)["influence"]
    tiny.agree(found, expected, 1e-8)


@pytest.mark.parametrize("method", [LiSSA(alpha=50, steps=200, batch_size=4), ASTRA(alpha=500, steps=200)])
def test_a_step_that_is_too_long_diverges_by_name(method: Any) -> None:
    influence = tiny.fit(tiny.table_problem(), method)
    with pytest.raises(NumericsError, match=f"{type(method).__name__} diverges with alpha=50"):
        influence.score(tiny.table(2, "query"), progress=False)
    with pytest.raises(NumericsError, match="diverges"):
        influence.self_influence(progress=False)


def test_what_is_not_converged_is_said() -> None:
    problem = tiny.table_problem(tiny.mlp().double())
    one, many = (asked(problem, CG(steps=steps, tolerance=1e-9))["solver_residual"] for steps in (1, 60))
    assert (one > 1e-3).all() and (many <= 1e-8).all()
    assert one.attrs["units"] == "1" and "|v|" in one.attrs["description"]


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no steps": (CG, {"steps": 0}, "steps=0 must be a whole number"),
    "half a step": (LiSSA, {"steps": 1.5}, "steps=1.5 must be a whole number"),
    "no batch": (ASTRA, {"batch_size": 0}, "batch_size=0 must be a whole number"),
    "no repeats": (LiSSA, {"repeats": 0}, "repeats=0 must be a whole number"),
    "alpha of 0": (LiSSA, {"alpha": 0}, "alpha=0 must be a positive number, or None"),
    "alpha of NaN": (ASTRA, {"alpha": np.nan}, "alpha=nan must be a positive number, or None"),
    "momentum of 1": (ASTRA, {"momentum": 1}, "momentum=1 must be a number from 0 to below 1"),
    "another start": (ASTRA, {"start": "kfac"}, "start='kfac' is not one of 'ekfac', 'zero'"),
    "negative tolerance": (CG, {"tolerance": -1e-3}, "tolerance=-0.001 must be a number from 0 to below 1"),
    "negative damping": (CG, {"damping": -1}, "damping=-1 must be a finite number"),
}


@pytest.mark.parametrize(("method", "settings", "says"), BAD.values(), ids=BAD)
def test_bad_settings(method: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        method(**settings)
