"""inflab gives what Kronfluence 1.0.1 gives, to relative 1e-6 in float64.

Empirical Fisher, the same damping, the same batch sizes, eager attention. Compared are covariances, corrected
eigenvalues, and scores (total, by layer, by token, self), never eigenvectors: these are free in sign, and in
degenerate subspaces altogether. Left out are Kronfluence's known faults: modules used
several times, prompts masked in training texts, per-module scores with post-processed gradients.
"""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import xarray as xr

import inflab

if TYPE_CHECKING:
    from tests.peers.conftest import Case

pytestmark = [
    pytest.mark.peer,
    # Kronfluence 1.0.1 makes its gradient scalers the way torch has since deprecated.
    pytest.mark.filterwarnings("ignore:.torch.cuda.amp.GradScaler:FutureWarning:kronfluence"),
]

#: Kronfluence's damping factor -> ours. None stands for its heuristic, which is the paper's.
DAMPINGS = {None: (0.1, "relative"), 1e-3: (1e-3, "absolute")}
METHODS = {
    "ekfac": inflab.EKFAC,
    "kfac": inflab.KFAC,
    "diagonal": inflab.Diagonal,
    "identity": inflab.Identity,
}


class Kronfluence:
    """One case in Kronfluence's hands; it works in a folder, so every question is asked once and kept.

    Its score is `grad m^T (G + lambda I)^-1 grad L`, m being whatever the task calls its measurement, without a minus
    and not divided by N. Ours is `I_f = -grad f^T (G + lambda I)^-1 grad L`: positive where training on the sequence
    raises f. So with m = L (that is, m = -f for f = log p) both agree as they are, and with m = f they agree up to
    the sign.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        from kronfluence.analyzer import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments, ScoreArguments
        from kronfluence.task import Task

        class PeerTask(Task):
            measurement = staticmethod(case.peer_loss)

            def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> torch.Tensor:
                assert not sample
                return case.peer_loss(batch, model)

            def compute_measurement(self, batch: Any, model: Any) -> torch.Tensor:
                return self.measurement(batch, model)

            def get_influence_tracked_modules(self) -> list[str]:
                return case.layers

            def get_attention_mask(self, batch: Any) -> torch.Tensor | None:
                return case.peer_mask(batch)

        self.case = case
        self.task = PeerTask()
        model = prepare_model(copy.deepcopy(case.peer_model), self.task)
        self.analyzer = Analyzer("peer", model, self.task, cpu=True, disable_tqdm=True, output_dir=str(folder))
        double = torch.float64
        self.factor_args = functools.partial(
            FactorArguments,
            use_empirical_fisher=True,
            activation_covariance_dtype=double,
            gradient_covariance_dtype=double,
            per_sample_gradient_dtype=double,
            lambda_dtype=double,
        )
        self.score_args = functools.partial(
            ScoreArguments,
            per_sample_gradient_dtype=double,
            precondition_dtype=double,
            score_dtype=double,
            query_gradient_svd_dtype=double,
            use_full_svd=True,
        )

    @functools.cache  # noqa: B019 - lives as long as the test session
    def fit(self, strategy: str) -> str:
        args = self.factor_args(strategy=strategy)
        self.analyzer.fit_all_factors(strategy, self.case.peer_train, self.case.batch_size, factor_args=args)
        return strategy

    @functools.cache  # noqa: B019
    def covariances(self) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
        """A, S and the number of tokens, by layer."""
        found = self.analyzer.load_covariance_matrices(self.fit("ekfac"))
        result = {}
        for layer in self.case.layers:
            tokens = found["num_activation_covariance_processed"][layer]
            assert tokens == found["num_gradient_covariance_processed"][layer]
            a, s = (found[f"{side}_covariance"][layer] / tokens for side in ("activation", "gradient"))
            result[layer] = a.numpy(), s.numpy(), int(tokens)
        return result

    def eigenvalues(self, name: str) -> dict[str, np.ndarray]:
        """Lambda by layer."""
        found = self.analyzer.load_lambda_matrices(name)
        return {
            layer: (found["lambda_matrix"][layer] / found["num_lambda_processed"][layer]).numpy()
            for layer in self.case.layers
        }

    def eigenvalues_in_basis_of(self, factors: xr.DataTree) -> dict[str, np.ndarray]:
        """Lambda by layer along eigenvectors that are given, instead of its own."""
        from kronfluence.factor.eigen import save_eigendecomposition

        folder = self.analyzer.factors_output_dir("given")
        folder.mkdir(exist_ok=True)
        names = [f"{side}_{what}" for side in ("activation", "gradient") for what in ("eigenvectors", "eigenvalues")]
        given = {
            name: {layer: torch.tensor(factors[layer][name].to_numpy()) for layer in self.case.layers} for name in names
        }
        save_eigendecomposition(folder, given)
        self.analyzer.fit_lambda_matrices(
            "given",
            self.case.peer_train,
            self.case.batch_size,
            factor_args=self.factor_args(),
            overwrite_output_dir=True,
        )
        return self.eigenvalues("given")

    @functools.cache  # noqa: B019
    def scores(
        self,
        strategy: str,
        damping: float | None,
        *,
        by: str = "",
        measurement: str = "loss",
        rank: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Pairwise scores by layer, or of "all_modules"; `(query, train[, token])`."""
        self.task.measurement = self.case.peer_loss if measurement == "loss" else self.case.peer_other
        args = self.score_args(
            damping_factor=damping,
            compute_per_module_scores=by != "",
            compute_per_token_scores=by == "token",
            query_gradient_low_rank=rank,
        )
        name = f"{strategy} {damping} {by} {measurement} {rank}"
        self.analyzer.compute_pairwise_scores(
            name,
            self.fit(strategy),
            self.case.peer_queries,
            self.case.peer_train,
            per_device_query_batch_size=self.case.batch_size,
            per_device_train_batch_size=self.case.batch_size,
            score_args=args,
        )
        return {layer: value.numpy() for layer, value in self.analyzer.load_pairwise_scores(name).items()}

    @functools.cache  # noqa: B019
    def self_scores(self, strategy: str, damping: float | None, *, by: str = "") -> dict[str, np.ndarray]:
        """Self-influence by layer, or of "all_modules"; `(train,)`."""
        name = f"self {strategy} {damping} {by}"
        args = self.score_args(damping_factor=damping, compute_per_module_scores=by != "")
        self.analyzer.compute_self_scores(
            name, self.fit(strategy), self.case.peer_train, self.case.batch_size, score_args=args
        )
        return {layer: value.numpy() for layer, value in self.analyzer.load_self_scores(name).items()}


@pytest.fixture(scope="session")
def build_pair(
    build_case: Callable[[str], Case], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], SimpleNamespace]:
    pytest.importorskip("kronfluence")
    # Kronfluence collects garbage several times a question, through everything that is imported, which takes longer
    # than its answers. What is alive now is set aside.
    gc.freeze()
    request.addfinalizer(gc.unfreeze)

    @functools.cache
    def build(name: str) -> SimpleNamespace:
        case = build_case(name)

        @functools.cache
        def ours(strategy: str, damping: float | None = None, measurement: str = "loss") -> inflab.Influence:
            if damping is not None:
                return ours(strategy, None, measurement).with_damping(*DAMPINGS[damping])
            problem = case.problem if measurement == "loss" else case.other
            method = METHODS[strategy](layers=case.layers, fisher="empirical")
            return method.fit(problem, batch_size=case.batch_size, progress=False)

        return SimpleNamespace(case=case, ours=ours, peer=Kronfluence(case, tmp_path_factory.mktemp(name)))

    return build


@pytest.fixture
def pair(case: Case, build_pair: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    """Both sides of one case: `ours(strategy, damping, measurement)` is fitted, `peer` is a `Kronfluence`."""
    return build_pair(case.name)


def ask(pair: SimpleNamespace, influence: inflab.Influence, **options: Any) -> xr.DataArray:
    scores = influence.score(pair.case.queries, batch_size=pair.case.batch_size, progress=False, **options)
    return scores["influence"]


def test_covariances(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    factors = pair.ours("ekfac").factors
    assert sorted(factors.children) == sorted(pair.case.layers)
    for layer, (a, s, tokens) in pair.peer.covariances().items():
        node = factors[layer]
        assert node.attrs["tokens"] == tokens
        for side, theirs in (("activation", a), ("gradient", s)):
            vectors = node[f"{side}_eigenvectors"].transpose(side, f"{side}_eigen").to_numpy()
            ours = vectors * node[f"{side}_eigenvalues"].to_numpy() @ vectors.T
            agree(ours, theirs)


def test_corrected_eigenvalues_in_the_same_basis(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    """Kronfluence fits Lambda along our eigenvectors: equal whatever the spectrum."""
    factors = pair.ours("ekfac").factors
    theirs = pair.peer.eigenvalues_in_basis_of(factors)
    for layer in pair.case.layers:
        agree(factors[layer]["eigenvalues"].transpose("gradient_eigen", "activation_eigen"), theirs[layer])


def test_corrected_eigenvalues_in_each_its_own_basis(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    """Along eigenvectors that are determined but for their sign, both Lambdas are the same numbers."""
    factors = pair.ours("ekfac").factors
    theirs = pair.peer.eigenvalues(pair.peer.fit("ekfac"))
    shares = []
    for layer in pair.case.layers:
        node = factors[layer]
        rows, columns = (_isolated(node[f"{side}_eigenvalues"].to_numpy()) for side in ("gradient", "activation"))
        ours = node["eigenvalues"].transpose("gradient_eigen", "activation_eigen").to_numpy()
        agree(ours[np.ix_(rows, columns)], theirs[layer][np.ix_(rows, columns)], floor=1e-10)
        shares.append(rows.mean() * columns.mean())
    assert np.mean(shares) > 0.9  # nearly all of Lambda was compared


def _isolated(ascending: np.ndarray, gap: float = 1e-6) -> np.ndarray:
    """Which eigenvalues are apart from their neighbours, so that rounding cannot turn their eigenvectors."""
    is_apart = np.concatenate([[True], np.diff(ascending) > gap * ascending[-1], [True]])
    return is_apart[:-1] & is_apart[1:]


@pytest.mark.parametrize("damping", DAMPINGS)
def test_pairwise_scores(pair: SimpleNamespace, damping: float | None, agree: Callable[..., None]) -> None:
    ours = ask(pair, pair.ours("ekfac", damping))
    agree(ours.transpose("query", "train"), pair.peer.scores("ekfac", damping)["all_modules"])


@pytest.mark.parametrize("strategy", METHODS)
def test_scores_by_layer(pair: SimpleNamespace, strategy: str, agree: Callable[..., None]) -> None:
    ours = ask(pair, pair.ours(strategy), by="layer")
    theirs = pair.peer.scores(strategy, None, by="layer")
    assert sorted(theirs) == sorted(ours["layer"].to_numpy())
    for layer, value in theirs.items():
        agree(ours.sel(layer=layer).transpose("query", "train"), value)


def test_scores_of_truncated_queries(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    ours = ask(pair, pair.ours("ekfac"), rank=2, truncation="plain")
    agree(ours.transpose("query", "train"), pair.peer.scores("ekfac", None, rank=2)["all_modules"])


@pytest.mark.parametrize("case", ["llama", "gpt2"], indirect=True)
def test_scores_by_token(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    """Every pair, every layer, every training token; padding is zero on both sides."""
    influence = pair.ours("ekfac")
    scores = influence.score(pair.case.queries, progress=False)
    everything = inflab.top(scores, scores.sizes["train"], sign="absolute")
    found = influence.attribute(
        pair.case.queries, everything, batch_size=pair.case.batch_size, progress=False
    ).transpose("query", "rank", "layer", "token")
    order = np.argsort(found["train"].to_numpy(), axis=1)
    ours = np.take_along_axis(found["influence"].to_numpy(), order[..., None, None], axis=1)
    theirs = pair.peer.scores("ekfac", None, by="token")
    for place, layer in enumerate(found["layer"].to_numpy()):
        agree(ours[:, :, place], theirs[layer])


@pytest.mark.parametrize("strategy", METHODS)
def test_self_influence(pair: SimpleNamespace, strategy: str, agree: Callable[..., None]) -> None:
    ours = pair.ours(strategy, 1e-3).self_influence(batch_size=pair.case.batch_size, progress=False)
    agree(ours["influence"], pair.peer.self_scores(strategy, 1e-3)["all_modules"])


def test_self_influence_by_layer(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    ours = pair.ours("ekfac").self_influence(by="layer", batch_size=pair.case.batch_size, progress=False)
    theirs = pair.peer.self_scores("ekfac", None, by="layer")
    assert sorted(theirs) == sorted(ours["layer"].to_numpy())
    for layer, value in theirs.items():
        agree(ours["influence"].sel(layer=layer), value)


def test_another_measurement_has_the_other_sign(pair: SimpleNamespace, agree: Callable[..., None]) -> None:
    """Kronfluence's measurement is f itself here, so its score is minus ours (see `Kronfluence`)."""
    ours = ask(pair, pair.ours("ekfac", None, "other"))
    agree(-ours.transpose("query", "train"), pair.peer.scores("ekfac", None, measurement="other")["all_modules"])
