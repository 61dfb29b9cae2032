"""GB23 section 5.1: do EK-FAC, LiSSA and the dot product predict the proximal Bregman response, and at what cost.

Each repeat trains a model from its own seed, draws training points and queries, optimises the response of every
training point (`inflab.truth.pbrf`) and correlates it with what each method predicts: Pearson's r over the training
points, averaged over the queries. All methods and the response share one absolute damping.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.accuracy.cases import case
from inflab import truth

__all__ = ["METHODS", "RESPONSES", "repeat", "summary"]

#: What is compared; the paper's three and the diagonal.
METHODS = ("EKFAC", "KFAC", "LiSSA", "Diagonal", "Identity")


@dataclass(frozen=True)
class Setting:
    """How the response of one case is measured.

    Attributes:
        damping: absolute, GB23 section 5.1 takes 0.001.
        points: training points a repeat.
        queries: a repeat.
        pbrf: settings of `inflab.truth.pbrf`.
        lissa: settings of `inflab.LiSSA`.
    """

    damping: float = 1e-3
    points: int = 20
    queries: int = 20
    pbrf: tuple[tuple[str, Any], ...] = ()
    lissa: tuple[tuple[str, Any], ...] = ()


#: With one whole copy (eps = 1 / n) and so little damping a network leaves the range in which anything is linear.
_SMALL = (("eps", 1e-5),)
#: A fifth of the depth of Koh and Liang (2017): its time is at least so much.
_LISSA = (("steps", 1000),)

RESPONSES: dict[str, Setting] = {
    "concrete": Setting(pbrf=_SMALL, lissa=_LISSA),
    "diabetes": Setting(pbrf=_SMALL, lissa=_LISSA),
    "digits": Setting(pbrf=(*_SMALL, ("tolerance", 1e-2)), lissa=_LISSA),
    "digits-early": Setting(pbrf=(*_SMALL, ("tolerance", 1e-2)), lissa=_LISSA),
    "fashion": Setting(points=12, queries=12, pbrf=(*_SMALL, ("tolerance", 1e-2)), lissa=_LISSA),
    # A sequence's loss is a sum over 31 letters: damping goes by the size of the eigenvalues.
    "characters": Setting(
        damping=0.1,
        points=8,
        queries=10,
        lissa=(("steps", 200),),
        pbrf=(("eps", 1e-4), ("tolerance", 3e-2), ("rank", 64), ("dtype", "float32")),
    ),
}


def repeat(name: str, number: int, setting: Setting | None = None) -> xr.Dataset:
    """One repeat.

    Args:
        name: of the case.
        number: of the repeat; the seed of everything in it.
        setting: how the response is measured; the case's own when None.

    Returns:
        `influence (estimator, query, train)`, where "PBRF" is the response; `seconds (estimator)`, of fit and queries;
        `is_converged (train)`, `gradient_norm (train)`.
    """
    setting = RESPONSES[name] if setting is None else setting
    chosen = case(name)
    rng = np.random.default_rng(number)
    train = np.sort(rng.choice(chosen.corpus.sizes["train"], setting.points, replace=False))
    asked = np.sort(rng.choice(chosen.queries.sizes["query"], setting.queries, replace=False))
    queries, points = chosen.queries.isel(query=asked), chosen.corpus.isel(train=train)
    model = chosen.recipe.train(chosen.corpus, seed=number, progress=False).model
    problem = inflab.Problem(model, chosen.recipe.task, chosen.corpus)
    at: dict[str, Any] = {"layers": chosen.layers, "damping": setting.damping, "damping_kind": "absolute"}

    values, seconds = [], []
    began = time.perf_counter()
    response = truth.pbrf(
        problem, queries, points["train"].to_numpy().tolist(), layers=chosen.layers, damping=setting.damping,
        seed=number, progress=False, **dict(setting.pbrf),
    )  # fmt: skip
    values.append(response["influence"].transpose("query", "train").to_numpy())
    seconds.append(time.perf_counter() - began)
    for method in METHODS:
        own = at | (dict(setting.lissa) if method == "LiSSA" else {})
        began = time.perf_counter()
        fitted = getattr(inflab, method)(**own).fit(problem, seed=number, progress=False)
        found = fitted.score(queries, train=points, progress=False)["influence"]
        values.append(found.transpose("query", "train").to_numpy())
        seconds.append(time.perf_counter() - began)
    return xr.Dataset(
        {
            "influence": (("estimator", "query", "train"), np.stack(values).astype(np.float32)),
            "seconds": ("estimator", np.array(seconds)),
            "is_converged": ("train", response["is_converged"].to_numpy()),
            "gradient_norm": ("train", response["gradient_norm"].to_numpy()),
        },
        coords={
            "estimator": np.array(["PBRF", *METHODS], dtype=object),
            "query": queries["query"].to_numpy(),
            "train": points["train"].to_numpy(),
        },
    )


def correlation(found: xr.Dataset) -> xr.DataArray:
    """Pearson's r of each method with the response over the training points, averaged over queries, `(estimator,)`."""
    value = found["influence"].astype(np.float64)
    centred = value - value.mean("train")
    unit = centred / np.sqrt((centred**2).sum("train"))
    r = (unit * unit.sel(estimator="PBRF", drop=True)).sum("train").mean("query")
    return r.drop_sel(estimator="PBRF")


def summary(found: xr.Dataset, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> xr.Dataset:
    """Medians over repeats with bootstrap intervals, and what they say of the paper's claims.

    Args:
        found: `correlation (case, repeat, estimator)` and `seconds_per_query (case, repeat, estimator)`.
        resamples: of the bootstrap over repeats.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        `correlation (case, estimator)` and `interval (case, estimator, bound)`; the differences of EK-FAC to the dot
        product, `above_dot (case)`, and to LiSSA, `from_lissa (case)`, and `cost_ratio (case)`, LiSSA's seconds over
        EK-FAC's, each with `..._interval (case, bound)`.
    """
    r = found["correlation"].transpose("repeat", "case", "estimator")
    above = r.sel(estimator="EKFAC", drop=True) - r.sel(estimator="Identity", drop=True)
    apart = r.sel(estimator="EKFAC", drop=True) - r.sel(estimator="LiSSA", drop=True)
    seconds = found["seconds_per_query"].transpose("repeat", "case", "estimator")
    ratio = seconds.sel(estimator="LiSSA", drop=True) / seconds.sel(estimator="EKFAC", drop=True)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, r.sizes["repeat"], (resamples, r.sizes["repeat"]))
    tail = (1 - level) / 2

    def interval(values: xr.DataArray) -> tuple[tuple[str, ...], np.ndarray]:
        medians = np.median(values.to_numpy()[picks], axis=1)
        return (*map(str, values.dims[1:]), "bound"), np.moveaxis(np.quantile(medians, [tail, 1 - tail], axis=0), 0, -1)

    return xr.Dataset(
        {
            "correlation": r.median("repeat"),
            "interval": interval(r),
            "above_dot": above.median("repeat"),
            "above_dot_interval": interval(above),
            "from_lissa": apart.median("repeat"),
            "from_lissa_interval": interval(apart),
            "cost_ratio": ratio.median("repeat"),
            "cost_ratio_interval": interval(ratio),
            "seconds_per_query": seconds.median("repeat"),
        },
        coords={"bound": np.array(["low", "high"], dtype=object)},
        attrs={"repeats": r.sizes["repeat"], "level": level, "resamples": resamples},
    )


def gathered(repeats: dict[str, list[xr.Dataset]]) -> xr.Dataset:
    """What is kept of all repeats: correlations, seconds a query, and whether the responses converged.

    Returns:
        `correlation`, `seconds_per_query (case, repeat, estimator)`, `converged (case, repeat)`: the share of points.
    """
    names = list(repeats)
    r = [[correlation(found) for found in repeats[name]] for name in names]
    seconds = [
        [found["seconds"].drop_sel(estimator="PBRF") / found.sizes["query"] for found in repeats[name]]
        for name in names
    ]
    return xr.Dataset(
        {
            "correlation": (("case", "repeat", "estimator"), np.array([[x.to_numpy() for x in row] for row in r])),
            "seconds_per_query": (
                ("case", "repeat", "estimator"),
                np.array([[x.to_numpy() for x in row] for row in seconds]),
            ),
            "converged": (
                ("case", "repeat"),
                np.array([[float(found["is_converged"].mean()) for found in repeats[name]] for name in names]),
            ),
        },
        coords={
            "case": np.array(names, dtype=object),
            "repeat": np.arange(len(r[0])),
            "estimator": np.array(METHODS, dtype=object),
        },
    )
