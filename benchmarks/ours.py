"""inflab's side, through its public names. The damping is the paper's, the Fisher empirical: so are the peers'."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks import setting
from benchmarks.child import Run
from benchmarks.roofline import gemm_rates
from inflab.adapters import from_arrays, from_dataset

__all__ = ["STEPS", "corpus", "problem"]


def corpus(rows: np.ndarray, dim: str = "train") -> xr.Dataset:
    """Sequences of token ids as a corpus."""
    return from_dataset([{"input_ids": row} for row in rows], dim=dim)


def problem(run: Run, n_train: int) -> inflab.Problem:
    """The language model with its first `n_train` training sequences."""
    rows = setting.sequences(run.folder, run.size)[:n_train]
    return inflab.Problem(setting.model(run.folder, run.size), inflab.CausalLM(), corpus(rows))


def queries(run: Run, n: int) -> xr.Dataset:
    """The last `n` query sequences."""
    return corpus(setting.sequences(run.folder, run.size, dim="query")[-n:], "query")


def fit(run: Run, memory: str | None = None) -> dict[str, Any]:
    """EK-FAC factors of the MLP layers; kept for the workloads that need them."""
    trained = problem(run, run.size.train)
    method = inflab.EKFAC(layers=setting.layer_names(run.size), fisher="empirical")
    with run.timed("fit"):
        influence = method.fit(trained, memory=memory, progress=False)
    run.note(**gemm_rates(run.size.device))
    _keep(influence, run.factors("ours"))
    return _factors(influence)


def score(
    run: Run,
    n_queries: int | None = None,
    memory: str | None = None,
    rank: int | None = None,
) -> dict[str, Any]:
    """Pairwise scores of the last `n_queries` queries (all of them when None), factors ready."""
    influence, asked = _ready(run), queries(run, n_queries or run.size.queries)
    with run.timed("score"):
        scores = influence.score(asked, memory=memory, rank=rank, progress=False)["influence"]
        value = scores.transpose("query", "train").to_numpy()
    return {"scores": value}


def fit_and_score(run: Run, memory: str | None = None, dtype: str | None = None) -> dict[str, Any]:
    """From nothing to the scores of all queries."""
    trained, asked = problem(run, run.size.train), queries(run, run.size.queries)
    method = inflab.EKFAC(layers=setting.layer_names(run.size), fisher="empirical", dtype=dtype)
    with run.timed("fit"):
        influence = method.fit(trained, memory=memory, progress=False)
    with run.timed("score"):
        scores = influence.score(asked, memory=memory, progress=False)["influence"]
        value = scores.transpose("query", "train").to_numpy()
    return {"scores": value}


def self_influence(run: Run, memory: str | None = None) -> dict[str, Any]:
    """Self-influence of every training sequence, factors ready."""
    influence = _ready(run)
    with run.timed("self-influence"):
        value = influence.self_influence(memory=memory, progress=False)["influence"].to_numpy()
    return {"self": value}


def attribute(run: Run, memory: str | None = None, k: int = 10) -> dict[str, Any]:
    """Tokens of the `k` most influential sequences of each query; finding them is timed apart."""
    influence, asked = _ready(run), queries(run, run.size.asked)
    with run.timed("score and top"):
        best = inflab.top(influence.score(asked, memory=memory, progress=False), k)
    with run.timed("attribute"):
        tokens = influence.attribute(asked, best, memory=memory, progress=False)["influence"]
        value = tokens.sum("layer").transpose("query", "rank", "token").to_numpy()
    return {"train": tokens["train"].transpose("query", "rank").to_numpy(), "tokens": value}


def index(run: Run, size: float = 0.025, memory: str | None = None) -> dict[str, Any]:
    """New queries against an index of many sequences: the median of five times; building it is timed apart."""
    influence, asked = _ready(run), queries(run, run.size.new)
    many = corpus(setting.sequences(run.folder, run.size))
    path = run.folder / "index.zarr"
    shutil.rmtree(path, ignore_errors=True)
    with run.timed("build"):
        built = influence.index(path, size=size, train=many, memory=memory, progress=False)
    run.repeated("ask", 5, lambda: built.score(asked).load())
    value = built.score(asked)["influence"].transpose("query", "train").to_numpy()
    shapes = (influence.factors[name].sizes for name in setting.layer_names(run.size))
    dense = 4 * run.size.many * sum(sizes["gradient"] * sizes["activation"] for sizes in shapes)
    run.note(index_bytes=_bytes(path), dense_bytes=int(dense))
    shutil.rmtree(path)
    return {"scores": value}


def classifier(run: Run) -> dict[str, Any]:
    """The MLP: the Lambda pass alone, the whole fit, and self-influence. Each once before it is timed."""
    from inflab.layer import select_layers
    from inflab.run.fit import bases_of, covariance_sums, square_sums
    from inflab.run.local import Pass

    x, y = setting.data(run.size)
    trained = inflab.Problem(setting.mlp(run.folder, run.size), inflab.Classification(), from_arrays(x, y))
    method = inflab.EKFAC(fisher="empirical")
    influence = method.fit(trained, progress=False)
    influence.self_influence(progress=False)

    layers = select_layers(trained.model, method.layers)
    job = Pass(trained, layers, None, None, None, 0, False)
    positions = np.arange(run.size.examples)
    bases = bases_of(job, covariance_sums(job, "loss", positions))
    square_sums(job, "loss", positions, bases)
    with run.timed("Lambda"):
        square_sums(job, "loss", positions, bases)
    with run.timed("fit"):
        influence = method.fit(trained, progress=False)
    with run.timed("self-influence"):
        value = influence.self_influence(progress=False)["influence"].to_numpy()
    return {"self": value, **_factors(influence)}


def _ready(run: Run) -> inflab.Influence:
    found = inflab.load(run.factors("ours"), problem=problem(run, run.size.train))
    assert isinstance(found, inflab.Influence)
    return found


def _keep(influence: inflab.Influence, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    influence.save(path)


def _factors(influence: inflab.Influence) -> dict[str, Any]:
    """Eigenvalues of A and S, and Lambda, by layer."""
    found = {}
    for name, node in influence.factors.children.items():
        found[f"A:{name}"] = node["activation_eigenvalues"].to_numpy()
        found[f"S:{name}"] = node["gradient_eigenvalues"].to_numpy()
        found[f"Lambda:{name}"] = node["eigenvalues"].transpose("gradient_eigen", "activation_eigen").to_numpy()
    return found


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


STEPS = {
    "fit": fit,
    "score": score,
    "fit_and_score": fit_and_score,
    "self_influence": self_influence,
    "attribute": attribute,
    "index": index,
    "classifier": classifier,
}
