"""How inflab's time grows with one size at a time, and what a second Dask worker brings.

Sections are named "what size"; the report fits `seconds ~ size^exponent` by least squares in the logarithms. Every
size is measured once, after a warm-up: on a quiet machine that is enough for an exponent.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import xarray as xr

import inflab
from benchmarks import setting
from benchmarks.child import Run
from benchmarks.ours import corpus

__all__ = ["STEPS"]

#: Fractions of the sizes in `setting.Size`; not all are tried of every size.
_HALVES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)


def n_train(run: Run) -> dict[str, Any]:
    """Fit, 32 queries and self-influence against the number of training sequences."""
    for n in _fractions(run.size.train, (1 / 4, 1 / 2, 1, 2)):
        _all_three(run, n, n, run.size)
    return {}


def n_queries(run: Run) -> dict[str, Any]:
    """Scoring against the number of queries."""
    influence = _fit(_problem(run, _few(run), run.size), run.size)
    influence.score(_queries(run, 1), progress=False).load()
    for n in _fractions(run.size.queries, _HALVES):
        asked = _queries(run, n)
        with run.timed(f"score {n}"):
            influence.score(asked, progress=False).load()
    return {}


def length(run: Run) -> dict[str, Any]:
    """Everything against the length of a sequence."""
    for t in _fractions(run.size.length, (1 / 4, 1 / 2, 1)):
        _all_three(run, t, _few(run), run.size, t)
    return {}


def hidden(run: Run) -> dict[str, Any]:
    """Everything against the model's width, on random models."""
    for d in _fractions(run.size.hidden, (1 / 2, 1, 2)):
        _all_three(run, d, _few(run), setting.resized(run.size, hidden=d))
    return {}


def workers(run: Run) -> dict[str, Any]:
    """Scoring with one and with two Dask workers of one thread each; starting them is not timed."""
    from distributed import Client, LocalCluster

    influence = _fit(_problem(run, run.size.train, run.size), run.size)
    few, asked = _queries(run, 1), _queries(run, min(run.size.queries, 32))
    for n in (1, 2):
        with (
            LocalCluster(n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.wait_for_workers(n)
            ask = partial(influence.score, client=client, progress=False)
            ask(few)  # workers import torch and receive the model once
            run.repeated(f"score {n}", 3, lambda ask=ask: ask(asked))
    return {}


def _all_three(run: Run, value: int, n: int, size: setting.Size, tokens: int | None = None) -> None:
    """Fit, score 32 queries and self-influence of `n` sequences, under the name of the size's value."""
    if not run.sections:
        _fit(_problem(run, 4, size, tokens), size).self_influence(progress=False).load()
    trained, asked = _problem(run, n, size, tokens), _queries(run, min(run.size.queries, 32), tokens)
    with run.timed(f"fit {value}"):
        influence = _fit(trained, size)
    with run.timed(f"score {value}"):
        influence.score(asked, progress=False).load()
    with run.timed(f"self-influence {value}"):
        influence.self_influence(progress=False).load()


def _problem(run: Run, n: int, size: setting.Size, tokens: int | None = None) -> inflab.Problem:
    rows = setting.sequences(run.folder, run.size)[:n, :tokens]
    return inflab.Problem(setting.model(run.folder, size), inflab.CausalLM(), corpus(rows))


def _fit(problem: inflab.Problem, size: setting.Size) -> inflab.Influence:
    return inflab.EKFAC(layers=setting.layer_names(size), fisher="empirical").fit(problem, progress=False)


def _queries(run: Run, n: int, tokens: int | None = None) -> xr.Dataset:
    return corpus(setting.sequences(run.folder, run.size, dim="query")[-n:, :tokens], "query")


def _few(run: Run) -> int:
    return max(4, run.size.train // 4)


def _fractions(size: int, parts: tuple[float, ...]) -> list[int]:
    return sorted({max(1, int(size * part)) for part in parts})


STEPS = {"n_train": n_train, "n_queries": n_queries, "length": length, "hidden": hidden, "workers": workers}
