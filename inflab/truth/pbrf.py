"""The proximal Bregman response: what an influence approximates when a network is at no optimum (GB23 eqs. 7-9).

For a training example m, `theta(eps)` minimises the objective of `inflab.truth.proximal`; the response of a query is
`(f(theta(eps)) - f(theta_s)) / eps`, whose limit at eps = 0 is the influence `-grad f^T (G + lambda I)^-1 grad L(z_m)`.
It is found by minimising, without any approximation of G in the result.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from tqdm.auto import tqdm

from inflab import labels
from inflab.device import model_device
from inflab.errors import CorpusError, SettingError, check_count, is_finite_number
from inflab.layer import LayerPattern, select_layers
from inflab.memory import parse_memory
from inflab.problem import Problem
from inflab.run.gauss_newton import width_of
from inflab.schema import influence_attrs, root_attrs, variable_attrs
from inflab.truth.descent import VECTORS, Descent
from inflab.truth.proximal import Proximal

__all__ = ["pbrf"]

_TOGETHER = 32  # points
_STEPS = {"lbfgs": 500, "adam": 5000}


def pbrf(
    problem: Problem,
    queries: xr.Dataset,
    train: Sequence[Any] | None = None,
    *,
    layers: LayerPattern = "auto",
    damping: float = 1e-3,
    eps: float | None = None,
    symmetric: bool = False,
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    tolerance: float = 1e-3,
    steps: int | None = None,
    rank: int = 256,
    learning_rate: float = 0.1,
    batch_size: int | None = None,
    dtype: Literal["float64", "float32"] = "float64",
    seed: int = 0,
    at_once: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Proximal Bregman response of each query to each training example, by minimising the objective itself.

    The objective defines the response, the optimiser does not. "lbfgs" takes full batches and is preconditioned by a
    low-rank sketch of G, since with a small damping the objective is so ill-conditioned that Adam (what GB23 used)
    needs thousands of steps. Curvature of the network beyond G, and what is not linear in eps, are in the response.

    Args:
        problem: model, task and corpus; a copy of the model is moved.
        queries: the query batch.
        train: ids of the training examples; all when None.
        layers: which parameters move; as for `EKFAC`.
        damping: lambda itself: that of `EKFAC(damping=..., damping_kind="absolute")`.
        eps: weight of the example's loss beside the mean over the corpus; 1 / n_train when None, which is one more
            copy of it. A smaller one comes closer to the influence and is found in fewer steps, until rounding shows:
            of the gradient that is about the dtype's over eps. A negative one removes.
        symmetric: `(f(theta(eps)) - f(theta(-eps))) / (2 eps)` instead, which is the influence up to eps^2, at twice
            the cost.
        optimizer: "lbfgs", or "adam" with a learning rate that falls to zero by a cosine.
        tolerance: a point has converged when the norm of the objective's gradient is at most this times what it was at
            theta_s, where it is `|eps grad L(z_m)|`.
        steps: evaluations of the gradient, at most; 500 for "lbfgs", 5000 for "adam" when None.
        rank: of the sketch: so many products with G, after which fewer steps are needed.
        learning_rate: of "adam", times the root mean square of the first preconditioned step.
        batch_size: examples of the divergence in a step of "adam"; all when None. Convergence is looked at on all.
        dtype: the copy runs in it; responses are small differences.
        seed: of the sketch and of minibatches. No result depends on it by more than the tolerance.
        at_once: points optimised together; from their size when None.
        progress: show a bar over training examples.

    Returns:
        `influence (query, train)`, nat per unit weight, with the sign and scale of `Influence.score`; `is_converged
        (train)`, `gradient_norm (train)` as compared with `tolerance`, and `steps (train)`. Those of both signs, the
        worse or larger, with `symmetric`. Points that have not converged are warned of.

    Raises:
        SettingError: when a setting is outside its domain.
        CorpusError: when queries or ids do not fit the problem.
        LayerError: no layer matched, or one cannot be covered; named.
        ModelError: the model is in `train()` mode with dropout, or offloaded, or cannot be differentiated twice.
        NumericsError: the gradient of an example's loss is NaN or infinite.

    Example:
        >>> found = inflab.truth.pbrf(followed, asked, train=[0, 4], damping=0.1)
        >>> dict(found["influence"].sizes), bool(found["is_converged"].all())
        ({'query': 5, 'train': 2}, True)
    """
    if not isinstance(problem, Problem):
        raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
    problem.check_corpus(queries, "query")
    n = problem.corpus.sizes["train"]
    positions = _positions(train, problem.corpus["train"].to_numpy())
    check_count("rank", rank)
    _check(damping, eps, symmetric, optimizer, tolerance, steps, learning_rate, batch_size, dtype, seed, at_once)
    chosen = select_layers(problem.model, layers)
    problem.check_model()
    eps = 1 / n if eps is None else float(eps)
    steps = _STEPS[optimizer] if steps is None else int(steps)
    precision = torch.float64 if dtype == "float64" else torch.float32
    rank = min(int(rank), width_of(chosen))
    size = _size(problem, width_of(chosen), precision, len(positions), at_once, rank)
    signs = (1, -1) if symmetric else (1,)
    parts: list[tuple[np.ndarray, ...]] = []
    with Proximal(problem, chosen, precision, damping, size) as proximal:
        sketch = proximal.sketch(rank, seed)
        before = proximal.measured(queries, proximal.like(1), eps)
        with tqdm(total=len(positions), desc="PBRF", unit="example", disable=not progress, leave=False) as bar:
            for start in range(0, len(positions), size):
                points = torch.from_numpy(positions[start : start + size]).to(before.device)
                runs = []
                for sign in signs:
                    walk = Descent(proximal, sketch, sign * eps, points, tolerance, steps)
                    if optimizer == "adam":
                        u_mp = walk.adam(learning_rate, batch_size, seed)
                    else:
                        u_mp = walk.lbfgs()
                    moved = proximal.measured(queries, u_mp, sign * eps) - before
                    runs.append((moved / (sign * eps), walk.norm_m, walk.steps_m))
                response, norm, taken = (torch.stack(values) for values in zip(*runs, strict=True))
                parts.append(tuple(v.cpu().numpy() for v in (response.mean(0), norm.amax(0), taken.amax(0))))
                bar.update(len(points))
    response_mq, norm_m, steps_m = (np.concatenate(values) for values in zip(*parts, strict=True))
    settings = {
        "layers": [layer.name for layer in chosen], "damping": damping, "eps": eps, "symmetric": bool(symmetric),
        "optimizer": optimizer, "tolerance": tolerance, "steps": steps, "rank": rank, "dtype": dtype,
    }  # fmt: skip
    if optimizer == "adam":
        settings |= {"learning_rate": learning_rate, "batch_size": batch_size}
    attrs = root_attrs(
        "scores", method="PBRF", settings=json.dumps(settings), seed=int(seed), n_train=n,
        model_fingerprint=problem.model_fingerprint(), corpus_fingerprint=problem.corpus_fingerprint(),
    )  # fmt: skip
    return _assembled(problem, queries, positions, response_mq.T, norm_m, steps_m, tolerance, attrs)


def _assembled(
    problem: Problem,
    queries: xr.Dataset,
    positions: np.ndarray,
    response_qm: np.ndarray,
    norm_m: np.ndarray,
    steps_m: np.ndarray,
    tolerance: float,
    attrs: dict[str, Any],
) -> xr.Dataset:
    corpus = problem.corpus.isel(train=positions)
    is_converged = norm_m <= tolerance
    if not is_converged.all():
        lost = corpus["train"].to_numpy()[~is_converged].tolist()
        some = ", ".join(map(repr, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        warnings.warn(
            f"the response of train {some} has not converged: its relative gradient norm is up to "
            f"{norm_m.max():.2g}, tolerance={tolerance:g}; give more steps=, or a larger damping=",
            stacklevel=3,
        )
    about = "proximal Bregman response: change of the measurement per unit weight of the example"
    values = {
        "influence": (("query", "train"), response_qm, influence_attrs(about)),
        "is_converged": (
            "train",
            is_converged,
            variable_attrs("is converged", "1", "True where the gradient norm is within the tolerance"),
        ),
        "gradient_norm": (
            "train",
            norm_m,
            variable_attrs("relative gradient norm", "1", "of the objective, to that at the trained parameters"),
        ),
        "steps": ("train", steps_m, variable_attrs("steps", "1", "evaluations of the gradient")),
    }
    coords = {**labels.train_coords(corpus), **labels.query_coords(queries)}
    return xr.Dataset(values, coords=coords, attrs=attrs)


def _size(problem: Problem, width: int, dtype: torch.dtype, n: int, at_once: int | None, rank: int) -> int:
    """Points optimised together."""
    if at_once is not None:
        return min(int(at_once), n)
    room = parse_memory(None, model_device(problem.model)) // 2
    room -= 3 * rank * width * dtype.itemsize  # of the sketch
    return max(1, min(_TOGETHER, n, room // (VECTORS * width * dtype.itemsize)))


def _positions(train: Sequence[Any] | None, ids: np.ndarray) -> np.ndarray:
    if train is None:
        return np.arange(len(ids))
    if isinstance(train, str) or not hasattr(train, "__len__") or not len(train):
        raise SettingError(f"train={train!r} must be a list of train ids, or None for all")
    wanted = np.asarray(train).tolist()
    if len(set(wanted)) < len(wanted):
        raise SettingError("train holds an id twice; ask for each example once")
    found = pd.Index(ids.tolist(), dtype=object).get_indexer(pd.Index(wanted, dtype=object))
    if (found < 0).any():
        raise CorpusError(f"train names {wanted[int(np.argmin(found))]!r}, which is not in the corpus")
    return np.asarray(found)


def _check(
    damping: Any, eps: Any, symmetric: Any, optimizer: Any, tolerance: Any, steps: Any, learning_rate: Any,
    batch_size: Any, dtype: Any, seed: Any, at_once: Any,
) -> None:  # fmt: skip
    """Refuse settings outside their domain."""
    for name, value in (("damping", damping), ("tolerance", tolerance), ("learning_rate", learning_rate)):
        if not is_finite_number(value) or value <= 0:
            raise SettingError(f"{name}={value!r} must be a positive number")
    if eps is not None and (not is_finite_number(eps) or eps == 0):
        raise SettingError(f"eps={eps!r} must be a number other than 0, or None for 1 / n_train")
    if not isinstance(symmetric, bool):
        raise SettingError(f"symmetric={symmetric!r} must be True or False")
    if optimizer not in _STEPS:
        raise SettingError(f"optimizer={optimizer!r} is not one of {', '.join(map(repr, _STEPS))}")
    if dtype not in ("float64", "float32"):
        raise SettingError(f"dtype={dtype!r} is not one of 'float64', 'float32'")
    if batch_size is not None:
        check_count("batch_size", batch_size, "None for all examples")
        if optimizer != "adam":
            raise SettingError(f"batch_size={batch_size!r} belongs to optimizer='adam'; {optimizer!r} takes all")
    if steps is not None:
        check_count("steps", steps, "None for the optimiser's own", least=2)
    if at_once is not None:
        check_count("at_once", at_once, "None for what the memory holds")
    check_count("seed", seed, least=0)
