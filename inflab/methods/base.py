"""What every method that approximates the curvature of single layers shares: settings, checks, assembly."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import xarray as xr
from torch import nn

from inflab import factors
from inflab.capture import Quantity
from inflab.device import autocast_dtype
from inflab.errors import SettingError, check_count
from inflab.factors import LayerFactors
from inflab.influence import Influence
from inflab.layer import Layer, LayerPattern, select_layers
from inflab.plan import plan_fit
from inflab.problem import Problem
from inflab.run.asking import identity
from inflab.run.fitting import Fitting, bytes_of_fit
from inflab.run.local import Pass
from inflab.run.work import working
from inflab.schema import root_attrs
from inflab.workload import mean_tokens, workload

__all__ = ["LayerMethod"]


@dataclass(frozen=True, kw_only=True)
class LayerMethod(ABC):
    """Settings shared by all methods.

    Args:
        layers: "auto" (the MLP matrices of a transformer, every supported layer of another network), a glob, a list
            of names or globs, or a predicate `(name, module) -> bool`.
        damping: what is added to every eigenvalue.
        damping_kind: "relative": times the layer's mean eigenvalue (GB23 section 2.2); or "absolute".
        fisher: "true": labels sampled from the model's own softmax; "empirical": the data's labels.
        max_examples: fit on at most so many training examples, drawn by the seed; None takes all.
        dtype: of the passes ("bfloat16", "tfloat32" on a GPU, ...); None keeps the model's own. Sums are
            float32, or float64 for a float64 model.
    """

    layers: LayerPattern = "auto"
    damping: float = 0.1
    damping_kind: Literal["relative", "absolute"] = "relative"
    fisher: Literal["true", "empirical"] = "true"
    max_examples: int | None = None
    dtype: str | None = None

    #: What `fit` returns; a method that answers in a way of its own has a class of its own.
    result: ClassVar[type[Influence]] = Influence

    def __post_init__(self) -> None:
        factors.with_damping({}, self.damping, self.damping_kind)
        if self.fisher not in ("true", "empirical"):
            raise SettingError(f"fisher={self.fisher!r} is not one of 'true', 'empirical'")
        if self.max_examples is not None:
            check_count("max_examples", self.max_examples, "None for all")

    def fit(
        self,
        problem: Problem,
        *,
        store: str | Path | None = None,
        client: Any = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        shard_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Influence:
        """Fit the curvature of the problem's model on its training corpus.

        Args:
            problem: model, task and corpus.
            store: where to keep what is finished, so that a run that was broken off goes on when it is called again.
                At the end it is what `Influence.save` writes.
            client: a `dask.distributed.Client` whose workers do the passes.
            memory: budget of each worker, such as "3GB"; half of what is free when None.
            batch_size: examples in one pass; from the budget when None. Results do not depend on it.
            shard_size: examples that are done and kept together, with `store` or `client`; from the corpus when None.
            seed: of the pseudo-labels and of `max_examples`.
            progress: whether to show progress bars.

        Returns:
            An `Influence`, ready to be asked. With `store` or `client`, its attrs `shards_computed` and
            `shards_resumed` say what was done now and what was there.

        Raises:
            LayerError: no layer matched, or one cannot be covered; named.
            ModelError: the model is in `train()` mode with dropout.
            NumericsError: NaN or infinity anywhere, or a singular layer without damping; named.
            SettingError: a setting outside its domain.
            StoreError: the store holds something else, is being written by another process, or cannot be written.
            MissingDependencyError: `client` is given and dask.distributed is not installed.
        """
        if not isinstance(problem, Problem):
            raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
        check_count("seed", seed, least=0)
        layers = select_layers(problem.model, self.layers)
        problem.check_model()
        autocast_dtype(problem.model, self.dtype)
        run = Pass(problem, layers, self.dtype, memory, batch_size, seed, progress)
        run.budget()  # a bad budget fails here, before the passes
        n = problem.corpus.sizes["train"]
        positions = np.arange(n)
        if self.max_examples is not None and self.max_examples < n:
            positions = np.sort(np.random.default_rng(seed).choice(n, self.max_examples, replace=False))
        quantity: Quantity = "pseudo_loss" if self.fisher == "true" else "loss"
        more = self.needs(problem)
        attrs = {"method": type(self).__name__, "settings": self.settings(layers), "seed": seed}
        tokens = problem.corpus.sizes.get("token", 1)
        with working(
            run, positions, tokens, store=store, client=client, shard_size=shard_size,
            identity=lambda: identity("fit", problem, attrs, **more), n_bytes=bytes_of_fit(run, len(positions)),
        ) as work:  # fmt: skip
            if work.ledger is not None and work.ledger.is_finished:
                tree = work.reopened()
            else:
                fitting = Fitting(work, quantity)
                found = self._factors(fitting)
                nodes = {layer.name: factors.layer_node(layer, found[layer.name]) for layer in layers}
                nodes = factors.with_damping(nodes, self.damping, self.damping_kind)
                attrs |= more | {
                    "model_fingerprint": problem.model_fingerprint(),
                    "corpus_fingerprint": problem.corpus_fingerprint(),
                    "n_train": n,
                }
                root = xr.Dataset(attrs=root_attrs("factors", **attrs))
                tree = xr.DataTree.from_dict({
                    "/": root,
                    **{f"/factors/{name}": node for name, node in nodes.items()},
                })
                tree = fitting.finish(tree)
            tree.attrs |= work.attrs()
        return self.result(tree, problem, self)

    def plan(
        self,
        model: nn.Module | Problem,
        *,
        examples: int | None = None,
        tokens: float | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        rate: float | None = None,
    ) -> pd.DataFrame:
        """What an EK-FAC fit would do, before any work: operations, bytes and passes of each route.

        Args:
            model: a `Problem`; or any module, also on the `meta` device, whose weights do not exist.
            examples: training sequences; those of the problem when None.
            tokens: tokens of one, on average; those of the problem when None.
            memory: budget such as "80GB"; half of what is free here when None.
            batch_size: examples in one pass.
            rate: floating point operations in a second; measured here in a fraction of a second when None.

        Returns:
            A table: `step`, `layer`, `route`, `flops`, `bytes`, `share`, `seconds`, `taken`, `why`; totals in `attrs`.

        Raises:
            SettingError: when a module is given without `examples` and `tokens`.
        """
        if isinstance(model, Problem):
            examples = model.corpus.sizes["train"] if examples is None else examples
            tokens = mean_tokens(model.corpus) if tokens is None else tokens
            model = model.model
        if examples is None or tokens is None:
            raise SettingError(f"examples={examples!r}, tokens={tokens!r}: a model without a corpus needs both")
        layers = select_layers(model, self.layers)
        n = min(examples, self.max_examples or examples)
        work = workload(model, layers, examples=n, tokens=tokens, memory=memory, rate=rate, batch=batch_size)
        return plan_fit(work, blocks=getattr(self, "blocks", 1))

    def settings(self, layers: list[Layer]) -> str:
        """The settings as JSON text; a pattern that is a function is recorded as the layers it chose."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if callable(self.layers):
            values["layers"] = [layer.name for layer in layers]
        elif not isinstance(self.layers, str):
            values["layers"] = list(self.layers)
        return json.dumps(values)

    def needs(self, problem: Problem) -> dict[str, str]:
        """What a fit depends on beside model and corpus, as attrs; refuses a problem that lacks it."""
        return {}

    @abstractmethod
    def _factors(self, fitting: Fitting) -> dict[str, LayerFactors]:
        """The factors of every layer, from the steps of a fit."""
