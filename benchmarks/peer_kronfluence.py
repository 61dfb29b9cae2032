"""Kronfluence's side. It keeps factors and scores on disk; reading and writing them is part of how it works.

Loss and measurement are written here in plain torch on plain tensors; there is no padding, so no mask is given. Its
damping None is the paper's, 0.1 times the mean of Lambda.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks import setting
from benchmarks.child import Run

__all__ = ["STEPS"]

_NAME = "ekfac"


class _LanguageTask(Task):
    def __init__(self, layers: list[str]) -> None:
        self.layers = layers

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        assert not sample
        (token,) = batch
        logits = model(input_ids=token).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1).float(), token[:, 1:].flatten(), reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.layers


class _ClassTask(_LanguageTask):
    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        assert not sample
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="sum")


def fit(run: Run, batch_size: int = 16, amp: str | None = None) -> dict[str, Any]:
    """Covariances, eigendecompositions and Lambda; kept for the workloads that need them."""
    folder = run.factors("kronfluence")
    shutil.rmtree(folder, ignore_errors=True)
    analyzer = _language(run, folder)
    train = _tokens(run, "train", run.size.train)
    args = FactorArguments(use_empirical_fisher=True, amp_dtype=amp and getattr(torch, amp))
    with run.timed("fit"):
        analyzer.fit_all_factors(_NAME, train, batch_size, factor_args=args, overwrite_output_dir=True)
    return _factors(analyzer, setting.layer_names(run.size))


def score(
    run: Run,
    n_queries: int | None = None,
    n_train: int | None = None,
    batch_size: int = 16,
    query_batch: int = 32,
    accumulate: int = 1,
    rank: int | None = None,
    per_token: bool = False,
    amp: str | None = None,
) -> dict[str, Any]:
    """Pairwise scores of the last `n_queries` queries, factors ready.

    Args:
        run: the run.
        n_queries: all of them when None.
        n_train: training sequences; those of the factors when None.
        batch_size: training sequences in a pass.
        query_batch: queries whose gradients are held together.
        accumulate: query batches for one pass over the training sequences.
        rank: of the queries' gradients.
        per_token: keep the training tokens apart.
        amp: dtype of mixed precision.

    Returns:
        `scores (query, train[, token])`.
    """
    analyzer = _language(run, run.factors("kronfluence"))
    asked = _tokens(run, "query", n_queries or run.size.queries)
    train = _tokens(run, "train", n_train or run.size.train)
    args = ScoreArguments(
        damping_factor=None,
        query_gradient_accumulation_steps=accumulate,
        query_gradient_low_rank=rank,
        compute_per_token_scores=per_token,
        amp_dtype=amp and getattr(torch, amp),
    )
    with run.timed("score"):
        analyzer.compute_pairwise_scores(
            "asked", _NAME, asked, train, query_batch, batch_size, score_args=args, overwrite_output_dir=True
        )
        value = analyzer.load_pairwise_scores("asked")["all_modules"].float().numpy()
    return {"scores": value}


def fit_and_score(run: Run, batch_size: int = 16, amp: str | None = None) -> dict[str, Any]:
    """From nothing to the scores of all queries."""
    fit(run, batch_size, amp)
    return score(run, batch_size=batch_size, amp=amp)


def self_influence(run: Run, batch_size: int = 16) -> dict[str, Any]:
    """Self-influence of every training sequence, factors ready."""
    analyzer = _language(run, run.factors("kronfluence"))
    train = _tokens(run, "train", run.size.train)
    args = ScoreArguments(damping_factor=None)
    with run.timed("self-influence"):
        analyzer.compute_self_scores("self", _NAME, train, batch_size, score_args=args, overwrite_output_dir=True)
        value = analyzer.load_self_scores("self")["all_modules"].numpy()
    return {"self": value}


def classifier(run: Run, batch_size: int = 100) -> dict[str, Any]:
    """The MLP: Lambda alone, the whole fit, and self-influence. Each once before it is timed."""
    x, y = setting.data(run.size)
    model = setting.mlp(run.folder, run.size)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    args, scoring = FactorArguments(use_empirical_fisher=True), ScoreArguments(damping_factor=None)
    train = TensorDataset(x, y)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = _analyzer(model, _ClassTask(names), Path(folder), cpu=True)

        def run_fit() -> None:
            analyzer.fit_all_factors(_NAME, train, batch_size, factor_args=args, overwrite_output_dir=True)

        def run_lambda() -> None:
            analyzer.fit_lambda_matrices(_NAME, train, batch_size, factor_args=args, overwrite_output_dir=True)

        def run_self() -> None:
            analyzer.compute_self_scores(
                "self", _NAME, train, batch_size, score_args=scoring, overwrite_output_dir=True
            )

        work: dict[str, Callable[[], None]] = {"fit": run_fit, "Lambda": run_lambda, "self-influence": run_self}
        for section, job in work.items():
            job()
            with run.timed(section):
                job()
        value = analyzer.load_self_scores("self")["all_modules"].numpy()
        return {"self": value, **_factors(analyzer, names)}


def probe(run: Run, batches: dict[str, list[int]]) -> dict[str, Any]:
    """Which batch size is the fastest for each step: a quarter of the training sequences, after a warm-up.

    Args:
        run: the run; its notes say the fastest, and all seconds.
        batches: step -> the sizes to try.

    Returns:
        Nothing to compare.
    """
    few = max(8, run.size.train // 4)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = _language(run, Path(folder))
        train, asked = _tokens(run, "train", few), _tokens(run, "query", min(few, 32))
        fitting = FactorArguments(use_empirical_fisher=True)
        common: dict[str, Any] = {"score_args": ScoreArguments(damping_factor=None), "overwrite_output_dir": True}
        work: dict[str, Callable[[int], None]] = {
            "fit": lambda n: analyzer.fit_all_factors(_NAME, train, n, factor_args=fitting, overwrite_output_dir=True),
            "score": lambda n: analyzer.compute_pairwise_scores("p", _NAME, asked, train, len(asked), n, **common),
            "self_influence": lambda n: analyzer.compute_self_scores("s", _NAME, train, n, **common),
        }
        work["fit"](8)
        for step, job in work.items():
            for batch in batches[step]:
                with run.timed(f"{step} {batch}"):
                    job(batch)
    for batch in batches["classifier"]:
        own = Run(run.size, run.folder)
        classifier(own, batch)
        run.sections[f"classifier {batch}"] = own.sections["Lambda"]

    def seconds(step: str, batch: int) -> float:
        return run.sections[f"{step} {batch}"]["seconds"]

    run.note(fastest={step: min(tried, key=lambda n: seconds(step, n)) for step, tried in batches.items()})
    return {}


def _language(run: Run, folder: Path) -> Analyzer:
    task = _LanguageTask(setting.layer_names(run.size))
    return _analyzer(setting.model(run.folder, run.size), task, folder, cpu=run.size.device == "cpu")


def _analyzer(model: nn.Module, task: Task, folder: Path, *, cpu: bool) -> Analyzer:
    return Analyzer("a", prepare_model(model, task), task, cpu=cpu, disable_tqdm=True, output_dir=str(folder))


def _tokens(run: Run, dim: str, n: int) -> TensorDataset:
    rows = torch.from_numpy(setting.sequences(run.folder, run.size, dim=dim))
    return TensorDataset(rows[:n] if dim == "train" else rows[-n:])


def _factors(analyzer: Analyzer, names: list[str]) -> dict[str, Any]:
    """Eigenvalues of A and S, and Lambda, by layer."""
    eigen, corrected = analyzer.load_eigendecomposition(_NAME), analyzer.load_lambda_matrices(_NAME)
    found = {}
    for name in names:
        found[f"A:{name}"] = eigen["activation_eigenvalues"][name].numpy()
        found[f"S:{name}"] = eigen["gradient_eigenvalues"][name].numpy()
        found[f"Lambda:{name}"] = (corrected["lambda_matrix"][name] / corrected["num_lambda_processed"][name]).numpy()
    return found


STEPS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "fit": fit,
    "score": score,
    "fit_and_score": fit_and_score,
    "self_influence": self_influence,
    "classifier": classifier,
    "probe": probe,
}
