"""What a fit leaves behind: factors, settings and fingerprints, with or without the problem they came from.

Opening a saved result needs no torch: the engine is imported when a question needs a pass.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import xarray as xr

from inflab import factors as factor_arrays
from inflab import store as stores
from inflab.cards import Card, as_html, as_text, influence_card, model_parameters
from inflab.errors import LayerError, ModelError, StoreError
from inflab.schema import root_attrs

if TYPE_CHECKING:
    from inflab.kronecker import Curvature
    from inflab.layer import Layer
    from inflab.problem import Problem
    from inflab.run.local import Pass

__all__ = ["Fitted"]


class Fitted:
    """Factors as labelled arrays; the questions are those of `inflab.Influence`.

    Args:
        tree: the factors with their attrs.
        problem: model, task and corpus; without it the arrays can be read but no question asked.
        method: the settings this was fitted with, whose `fit` would do it again; None where they were not kept.
    """

    def __init__(self, tree: xr.DataTree, problem: Problem | None = None, method: Any = None) -> None:
        self._tree = tree
        self._problem = problem
        self._method = method
        self._model_state = None if problem is None else problem.model_state()

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

    @property
    def method(self) -> Any:
        """The method with its settings, such as `inflab.EKFAC(damping=0.1)`.

        Raises:
            StoreError: when this was loaded without its problem.
        """
        if self._method is None:
            raise StoreError("this Influence was loaded without its problem; use inflab.load(path, problem=...)")
        return self._method

    def with_damping(self, damping: float, damping_kind: Literal["relative", "absolute"] | None = None) -> Self:
        """The same factors under another damping; nothing is fitted again.

        Args:
            damping: not negative.
            damping_kind: "relative" or "absolute"; as fitted when None.

        Returns:
            A new one; arrays are shared.

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
        method = None
        if self._method is not None:
            method = dataclasses.replace(self._method, damping=damping, damping_kind=kind)
        return self._with(tree, method)

    def _with(self, tree: xr.DataTree, method: Any) -> Self:
        """The same fit with other arrays: the model is still that of the fit."""
        found = type(self)(tree, None, method)
        found._problem, found._model_state = self._problem, self._model_state
        return found

    def save(self, path: str | Path) -> None:
        """Write factors, settings and fingerprints as a zarr v3 store, complete or not at all.

        Raises:
            StoreError: when `path` exists or cannot be written.
        """
        stores.save(self._tree, path)

    def __repr__(self) -> str:
        settings = json.loads(self.attrs["settings"])
        first = (
            f"Influence({self.attrs['method']}, {len(self.factors.children)} layers, damping={settings['damping']} "
            f"{settings['damping_kind']}, n_train={self.attrs['n_train']}, model {self.attrs['model_fingerprint']}"
            + (")" if self._problem is not None else ", no problem attached)")
        )
        return as_text(lambda: self._card().text(first), first)

    def _repr_html_(self) -> str:
        return as_html(lambda: self._card().html(), self.__repr__)

    def _card(self) -> Card:
        parameters = 0 if self._problem is None else model_parameters(self._problem.model)
        return influence_card(self._tree, self._problem, parameters)

    def _prepare(
        self, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> tuple[Pass, Mapping[str, Curvature]]:
        from inflab.run.local import Pass

        problem, settings = self.problem, json.loads(self.attrs["settings"])
        problem.check_model()
        layers = self._layers()
        modules = dict(problem.model.named_modules())
        lost = [layer.name for layer in layers if layer.name not in modules]
        if lost:
            raise LayerError(f"the model has no layer {lost[0]!r}, which was fitted; use the model of the fit")
        self._check_same_model()
        shared = {str(name): factor_arrays.shared_with(node, str(name)) for name, node in self.factors.children.items()}
        run = Pass(problem, layers, settings["dtype"], memory, batch_size, int(self.attrs["seed"]), progress, shared)
        run.budget()
        return run, factor_arrays.curvatures(self.factors, layers, problem.model)

    def _check_same_model(self) -> None:
        """Refuse a model that was trained on, or otherwise changed, since the fit.

        Raises:
            ModelError: with both fingerprints.
        """
        state = self.problem.model_state()
        if state == self._model_state:
            return
        then, now = str(self.attrs["model_fingerprint"]), self.problem.model_fingerprint()
        if then != now:
            raise ModelError(
                f"the model has changed since it was fitted (fingerprint {then} then, {now} now): its curvature is of "
                "other weights; fit again, or load the weights of the fit"
            )
        self._model_state = state

    def _check_diagonal(self, what: str) -> None:
        """Refuse what needs a curvature that is diagonal in some basis; a class without one overrides this."""

    def _layers(self) -> list[Layer]:
        return [factor_arrays.layer_of(str(name), node) for name, node in self.factors.children.items()]

    def _train(self, train: xr.Dataset | None) -> xr.Dataset:
        if train is None:
            return self.problem.corpus
        self.problem.check_corpus(train, "train")
        return train

    def _attrs(self, kind: str, **extra: Any) -> dict[str, Any]:
        fitted = {name: value for name, value in self.attrs.items() if name not in stores.COUNTS}
        if self._problem is not None:
            fitted["measurement"] = self._problem.task.measures
        return {**fitted, **root_attrs(kind, **extra)}
