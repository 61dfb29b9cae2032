"""Influence: a fitted method, ready to be asked; labelled arrays out.

Opening a saved result needs no torch: the engine is imported when a question needs a pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from inflab import factors as factor_arrays
from inflab import labels, store
from inflab.errors import LayerError, SettingError, StoreError, check_count
from inflab.schema import influence_attrs, root_attrs
from inflab.select import top as select_top

if TYPE_CHECKING:
    from inflab.kronecker import Curvature
    from inflab.problem import Problem
    from inflab.run.local import Pass

__all__ = ["Influence"]


class Influence:
    """A fitted method. Made by a method's `fit`, or by `inflab.load`.

    Args:
        tree: the factors with their attrs (DESIGN section 3).
        problem: model, task and corpus; without it the arrays can be read but no question asked.
    """

    def __init__(self, tree: xr.DataTree, problem: Problem | None = None) -> None:
        self._tree = tree
        self._problem = problem

    @property
    def factors(self) -> xr.DataTree:
        """One child a layer: eigenvectors, eigenvalues, and the absolute damping in attrs."""
        found = self._tree["factors"]
        assert isinstance(found, xr.DataTree)
        return found

    @property
    def attrs(self) -> dict[str, Any]:
        """Method, settings, seed, fingerprints: what every result carries too."""
        return {str(name): value for name, value in self._tree.attrs.items()}

    @property
    def problem(self) -> Problem:
        """Model, task and corpus.

        Raises:
            StoreError: when this was loaded without them.
        """
        if self._problem is None:
            raise StoreError("this Influence was loaded without its problem; use inflab.load(path, problem=...)")
        return self._problem

    def score(
        self,
        queries: xr.Dataset,
        *,
        by: str | Iterable[str] = (),
        rank: int | None = None,
        train: xr.Dataset | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Influence of every training sequence on every query (GB23 eq. 5): one pass over the training data.

        Args:
            queries: a corpus over `query` (`inflab.encode(..., dim="query")`).
            by: "layer" keeps the layers apart; () sums them.
            rank: truncate each preconditioned query gradient to this rank (GB23 section 3.2.2); None is exact.
            train: other sequences to score instead of the training corpus.
            memory: budget such as "3GB". Queries whose gradients do not fit it together cost one more pass a block.
            batch_size: examples in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (query, train[, layer])`, nat per unit weight; the coordinates of both corpora, those of the
            queries with the prefix `query_`; layers carry `block`, `kind` and `role`.

        Raises:
            CorpusError: when a corpus does not fit the problem.
            SettingError: when `by`, `rank` or `memory` is outside its domain.
            NumericsError: NaN or infinity; layer and batch are named.
        """
        from inflab.run.score import score_pairs

        by_layer = _by_layer(by)
        if rank is not None:
            check_count("rank", rank, "None for exact")
        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        run, curvatures = self._prepare(memory, batch_size, progress)
        value = score_pairs(run, curvatures, queries, train, by_layer=by_layer, rank=rank)
        dims = ("query", "train", "layer")[: value.ndim]
        coords = {**labels.train_coords(train), **labels.query_coords(queries)}
        if by_layer:
            coords = labels.layered(coords, run.layers)
        note = f"truncated to rank {rank}" if rank is not None else "exact for this curvature"
        return xr.Dataset(
            {
                "influence": (
                    dims,
                    value,
                    influence_attrs(f"influence of each training sequence on each query, {note}"),
                )
            },
            coords=coords,
            attrs=self._attrs("scores", rank=rank or 0),
        )

    def self_influence(
        self,
        *,
        by: str | Iterable[str] = (),
        train: xr.Dataset | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Influence of each sequence on its own log-probability; large for memorised and mislabelled examples.

        Args:
            by: "layer" keeps the layers apart.
            train: other sequences instead of the training corpus.
            memory: budget such as "3GB".
            batch_size: examples in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (train[, layer])`, nat per unit weight, never negative.
        """
        from inflab.run.score import self_influence

        by_layer = _by_layer(by)
        train = self._train(train)
        run, curvatures = self._prepare(memory, batch_size, progress)
        positions = np.arange(train.sizes["train"])
        value = self_influence(run, curvatures, train, positions, by_layer=by_layer)
        coords = labels.train_coords(train)
        coords = labels.layered(coords, run.layers) if by_layer else coords
        described = influence_attrs("influence of each training sequence on its own log-probability")
        return xr.Dataset(
            {"influence": (("train", "layer")[: value.ndim], value, described)},
            coords=coords,
            attrs=self._attrs("self_influence"),
        )

    def attribute(
        self,
        queries: xr.Dataset,
        top: xr.Dataset,
        *,
        view: Literal["update", "output"] = "update",
        pairs: bool = False,
        train: xr.Dataset | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Where in the network and where in the text: influence of chosen pairs by layer and training token.

        Args:
            queries: a corpus over `query`; must hold every query of `top`.
            top: `train (query, rank)`, from `inflab.top`.
            view: "update" (GB23 eqs. 30, 31): what the weight update from each token position adds. The position
                reads the past and predicts the next token, so highlights sit one token early. "output" (eq. 36):
                what each predicted token gains, at its own place; summed over layers, in the model's dtype.
            pairs: with "update", keep the query's tokens apart too: which query token meets which training token.
            train: the sequences `top` refers to, when not the training corpus.
            memory: budget such as "3GB".
            batch_size: examples in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (query, rank, layer, token[, query_token])` with `token_text` and `is_text
            (query, rank, token)`; without `layer` for "output". Sums over layers and tokens are the scores. Pairs
            that `top` does not rank are NaN.

        Raises:
            CorpusError: when `top` names queries or sequences that are not there, or the corpus has no tokens.
            SettingError: when `view` is unknown, or `pairs` is asked of "output".
        """
        from inflab.run.score import token_pairs, token_scores
        from inflab.run.views import output_scores

        if view not in ("update", "output"):
            raise SettingError(f"view={view!r} is not one of 'update', 'output'")
        if pairs and view != "update":
            raise SettingError(f"pairs=True needs view='update', got view={view!r}")
        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        labels.check_tokens(train)
        chosen, is_ranked = labels.positions(queries, train, top)
        run, curvatures = self._prepare(memory, batch_size, progress)
        wanted = chosen[is_ranked]
        engine = {"output": output_scores, "update": token_pairs if pairs else token_scores}[view]
        value = engine(run, curvatures, queries, train, wanted)
        names = ["token"] if view == "output" else ["layer", "token", "query_token"][: value.ndim - 1]
        full = np.full((*is_ranked.shape, *value.shape[1:]), np.nan, dtype=value.dtype)
        full[is_ranked] = value
        return labels.token_dataset(
            full, names, train, queries, top, chosen[..., 1], run.layers, self._attrs("tokens", view=view)
        )

    def explain(self, queries: xr.Dataset, k: int = 10, *, progress: bool = True) -> xr.DataTree:
        """Everything the Explorer shows, as labelled arrays that can be saved and opened without the model.

        Args:
            queries: a corpus over `query`.
            k: length of the lists of most positive and most negative sequences.
            progress: whether to show progress bars.

        Returns:
            Children `scores`, `top`, `bottom`, `top_tokens`, `bottom_tokens`.

        Raises:
            SettingError: when `k` is outside its domain.
        """
        train = self._train(None)
        check_count("k", k)
        if k > train.sizes["train"]:
            raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {train.sizes['train']}")
        labels.check_tokens(train)
        scores = self.score(queries, progress=progress)
        lists = {
            "top": select_top(scores, k, sign="positive"),
            "bottom": select_top(scores, k, sign="negative"),
        }
        tokens = {f"{n}_tokens": self.attribute(queries, chosen, progress=progress) for n, chosen in lists.items()}
        root = xr.Dataset(attrs=self._attrs("explanation"))
        tree: xr.DataTree = xr.DataTree.from_dict({"/": root, "scores": scores, **lists, **tokens})
        return tree

    def with_damping(self, damping: float, damping_kind: Literal["relative", "absolute"] | None = None) -> Influence:
        """The same factors under another damping; nothing is fitted again.

        Args:
            damping: not negative.
            damping_kind: "relative" or "absolute"; as fitted when None.

        Returns:
            A new Influence; arrays are shared.

        Raises:
            SettingError: when damping is negative.
            NumericsError: when a layer would be singular; named.
        """
        settings = json.loads(self.attrs["settings"])
        kind = damping_kind or settings["damping_kind"]
        nodes = {name: node.to_dataset(inherit=False) for name, node in self.factors.children.items()}
        nodes = factor_arrays.with_damping(nodes, damping, kind)
        settings |= {"damping": damping, "damping_kind": kind}
        root = xr.Dataset(attrs={**self.attrs, "settings": json.dumps(settings)})
        tree = xr.DataTree.from_dict({"/": root, **{f"/factors/{name}": node for name, node in nodes.items()}})
        return Influence(tree, self._problem)

    def save(self, path: str | Path) -> None:
        """Write factors, settings and fingerprints as a zarr v3 store, complete or not at all.

        Raises:
            StoreError: when `path` exists or cannot be written.
        """
        store.save(self._tree, path)

    def __repr__(self) -> str:
        settings = json.loads(self.attrs["settings"])
        return (
            f"Influence({self.attrs['method']}, {len(self.factors.children)} layers, damping={settings['damping']} "
            f"{settings['damping_kind']}, n_train={self.attrs['n_train']}, model {self.attrs['model_fingerprint']}"
            + (")" if self._problem is not None else ", no problem attached)")
        )

    def _prepare(
        self, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> tuple[Pass, dict[str, Curvature]]:
        from inflab.run.local import Pass

        problem, settings = self.problem, json.loads(self.attrs["settings"])
        problem.check_model()
        layers = [factor_arrays.layer_of(str(name), node) for name, node in self.factors.children.items()]
        modules = dict(problem.model.named_modules())
        lost = [layer.name for layer in layers if layer.name not in modules]
        if lost:
            raise LayerError(f"the model has no layer {lost[0]!r}, which was fitted; use the model of the fit")
        run = Pass(problem, layers, settings["dtype"], memory, batch_size, int(self.attrs["seed"]), progress)
        run.budget()
        return run, factor_arrays.curvatures(self.factors, layers, problem.model)

    def _train(self, train: xr.Dataset | None) -> xr.Dataset:
        if train is None:
            return self.problem.corpus
        self.problem.check_corpus(train, "train")
        return train

    def _attrs(self, kind: str, **extra: Any) -> dict[str, Any]:
        return {**self.attrs, **root_attrs(kind, **extra)}


def _by_layer(by: str | Iterable[str]) -> bool:
    wanted = {by} if isinstance(by, str) else set(by)
    if not wanted <= {"layer"}:
        raise SettingError(f"by={sorted(wanted)} is not known; use by='layer' or by=()")
    return bool(wanted)
