"""A fit in steps that a store can keep and workers can share: covariances, eigenbases, corrected eigenvalues.

The sums of `inflab.run.fit` over all examples are the sums over shards, added as `inflab.run.tree` says.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from inflab import store
from inflab.capture import Quantity
from inflab.device import model_device
from inflab.factors import LayerFactors
from inflab.layer import Layer
from inflab.memory import kept_budget
from inflab.run import tree
from inflab.run.fit import Basis, Sums, bases_of, covariance_sums, square_sums
from inflab.run.kept import Kept
from inflab.run.ledger import Arrays, Ledger
from inflab.run.local import Pass, shared_inputs
from inflab.run.replay import Replays, keeper
from inflab.run.work import Shard, Work

__all__ = ["Fitting", "bytes_of_fit"]


def bytes_of_fit(run: Pass, examples: int) -> int:
    """What a fit's store takes at most: sums of so many shards as stand there at a time, and the factors."""
    factors = sum(layer.width**2 + layer.outputs**2 + layer.width * layer.outputs for layer in run.layers)
    return run.itemsize() * factors * (2 + examples.bit_length())


@dataclass
class Fitting:
    """The steps of one fit.

    Attributes:
        work: the shards of the training examples.
        quantity: what is differentiated.
    """

    work: Work
    quantity: Quantity
    _kept: Kept | Replays | None = field(default=None, init=False)
    _shared: dict[str, str] = field(default_factory=dict, init=False)
    _carried: Any = field(default=None, init=False)  # the pass, where the crew has it: models are large

    @property
    def run(self) -> Pass:
        """The pass."""
        return replace(self.work.run, shared=self._shared)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return sum(len(shard.positions) for shard in self.work.shards)

    def bases(self, blocks: int = 1, *, keep: bool = False) -> dict[str, Basis]:
        """The covariances of all examples, and their eigenbases.

        Args:
            blocks: diagonal blocks of each covariance (GB23 App. A).
            keep: whether `squares` follows, so that tokens are worth keeping.

        Returns:
            Layer name -> `Basis`; layers that share an input hold the same tensors.
        """
        positions = self.work.shards[0].positions
        self._shared = shared_inputs(self.work.run, positions)
        run = self.run
        if self.work.is_whole:
            if keep:
                budget = kept_budget(run.problem.model, run.layers, run.itemsize(), run.budget())
                self._kept = keeper(run, positions, budget)
            return bases_of(run, covariance_sums(run, self.quantity, positions, self._kept), blocks)
        groups = _groups(run)
        ledger, crew = self.work.ledger, self.work.crew
        todo = [g for g in range(len(groups)) if ledger is None or not ledger.is_whole(f"basis.{g}")]
        found: dict[int, Arrays] = {}
        if todo:
            sums = self._total("covariances", None)
            parts = {g: {k: sums.pop(k) for k in _keys(run, groups[g])} for g in todo}
            bar = tqdm(total=len(todo), desc="eigenbases", unit="layer", disable=not run.progress, leave=False)
            with bar:
                items = [(g, crew.share(parts.pop(g), everyone=False)) for g in todo]
                for (g, _), value in crew.each(_basis, items, self._carry(), groups, blocks):
                    if ledger is None:
                        found[g] = value
                    else:
                        ledger.keep(f"basis.{g}", value)
                    bar.update()
            if ledger is not None:
                tree.remove(ledger, "covariances")
        else:
            self.work.counts["shards_resumed"] += len(self.work.shards)
        bases: dict[str, Basis] = {}
        for g, group in enumerate(groups):
            held = found[g] if ledger is None else ledger.read(f"basis.{g}")
            assert held is not None
            bases |= _from_arrays(run, group, held)
        return {layer.name: bases[layer.name] for layer in run.layers}

    def squares(self, bases: dict[str, Basis] | None) -> Sums:
        """Sums over all examples of the squared rotated gradients: `{name}/squares (o, i)`."""
        if self.work.is_whole:
            return square_sums(self.run, self.quantity, self.work.shards[0].positions, bases, self._kept)
        return _tensors(self.run, self._total("eigenvalues", bases))

    def factors_of(self, name: str, basis: Basis, eigenvalues: Tensor) -> LayerFactors:
        """What the fit leaves of one layer, with corrected or approximate eigenvalues `(o, i)`."""
        return LayerFactors(
            eigenvalues=eigenvalues,
            activation_eigenvectors=basis.activation,
            activation_eigenvalues=basis.activation_eigenvalues,
            gradient_eigenvectors=basis.gradient,
            gradient_eigenvalues=basis.gradient_eigenvalues,
            tokens=basis.tokens,
            examples=self.examples,
            shares_input_with=self._shared.get(name, name),
            activation_share=basis.activation_share,
            gradient_share=basis.gradient_share,
        )

    def finish(self, factors: xr.DataTree) -> xr.DataTree:
        """Make the store complete.

        Args:
            factors: the factors as labelled arrays.

        Returns:
            The same, as the store holds them; `factors` itself without a store.
        """
        ledger = self.work.ledger
        if ledger is None:
            return factors
        with ledger.writing():
            shutil.rmtree(ledger.arrays, ignore_errors=True)
            nodes = store.write_tree(factors, ledger.arrays)
        ledger.finish(nodes, sum(self.work.counts.values()))
        return store.open_tree(ledger.path)

    def _carry(self) -> Any:
        """The pass as the crew takes it, brought there once."""
        if self._carried is None:
            self._carried = self.work.crew.share(replace(self.run, progress=False))
        return self._carried

    def _total(self, what: str, bases: dict[str, Basis] | None) -> Arrays:
        """The sums of all shards."""
        work, crew, ledger = self.work, self.work.crew, self.work.ledger
        step = _Step(what, self.quantity, len(work.shards), ledger if ledger and crew.reaches(ledger) else None)
        shared = [step, self._carry(), crew.share(bases)]
        if ledger is None:
            with work.bar(what, work.shards) as bar:

                def done(shard: Shard) -> None:
                    work.counts["shards_computed"] += 1
                    bar.update(len(shard.positions))

                return crew.total(_sums, work.shards, shared, done)
        left = set(tree.missing(ledger, what, len(work.shards)))
        for shard, value in work.each(_sums, [s for s in work.shards if s.index in left], shared, what):
            if step.ledger is None:
                tree.keep(ledger, what, len(work.shards), shard.index, value)
        return tree.total(ledger, what, len(work.shards))


@dataclass(frozen=True)
class _Step:
    """One of the two sums.

    Attributes:
        what: "covariances" or "eigenvalues".
        quantity: what is differentiated.
        count: number of shards.
        ledger: where whoever computes a shard keeps it; None hands it back.
    """

    what: str
    quantity: Quantity
    count: int
    ledger: Ledger | None


def _sums(step: _Step, run: Pass, bases: dict[str, Basis] | None, shard: Shard) -> Arrays:
    """The sums of one shard, kept in the ledger or handed back."""
    if step.ledger is not None and tree.is_there(step.ledger, step.what, step.count, shard.index):
        return {}  # asked again because the answer was lost, not the work
    if step.what == "covariances":
        sums = covariance_sums(run, step.quantity, shard.positions)
    else:
        sums = square_sums(run, step.quantity, shard.positions, bases)
    arrays = _arrays(sums)
    if step.ledger is None:
        return arrays
    tree.keep(step.ledger, step.what, step.count, shard.index, arrays)
    return {}


def _basis(run: Pass, groups: list[list[Layer]], blocks: int, item: tuple[int, Arrays]) -> Arrays:
    """The eigenbases of layers that share an input; their common one is there once, under the first one's name."""
    run = replace(run, layers=groups[item[0]])
    bases = bases_of(run, _tensors(run, item[1]), blocks)
    found: dict[str, Tensor | None] = {}
    for place, (name, basis) in enumerate(bases.items()):
        found |= {f"{name}/gradient": basis.gradient, f"{name}/gradient_eigenvalues": basis.gradient_eigenvalues}
        found |= {f"{name}/tokens": torch.tensor(basis.tokens)}
        found |= {f"{name}/gradient_share": torch.tensor(basis.gradient_share, dtype=torch.float64)}
        if place == 0:
            found |= {"activation": basis.activation, "activation_eigenvalues": basis.activation_eigenvalues}
            found |= {"activation_share": torch.tensor(basis.activation_share, dtype=torch.float64)}
    return _arrays({name: value for name, value in found.items() if value is not None})


def _from_arrays(run: Pass, group: Sequence[Layer], held: Arrays) -> dict[str, Basis]:
    found = _tensors(run, held, group[0].name)
    common = (found.get("activation"), found["activation_eigenvalues"])
    return {
        name: Basis(
            *common,
            found.get(f"{name}/gradient"),
            found[f"{name}/gradient_eigenvalues"],
            int(found[f"{name}/tokens"]),
            float(found["activation_share"]),
            float(found[f"{name}/gradient_share"]),
        )
        for name in (layer.name for layer in group)
    }


def _groups(run: Pass) -> list[list[Layer]]:
    """Layers that share an input together, in the model's order."""
    groups: dict[str, list[Layer]] = {}
    for layer in run.layers:
        groups.setdefault(run.shared.get(layer.name, layer.name), []).append(layer)
    return list(groups.values())


def _keys(run: Pass, group: Sequence[Layer]) -> list[str]:
    """Names of the sums that the bases of a group need."""
    own = [f"{layer.name}/{what}" for layer in group for what in ("gradient", "tokens")]
    return [*own, f"{run.shared.get(group[0].name, group[0].name)}/activation"]


def _arrays(sums: Mapping[str, Tensor]) -> Arrays:
    return {name: value.detach().cpu().numpy() for name, value in sums.items()}


def _tensors(run: Pass, arrays: Mapping[str, np.ndarray], layer: str | None = None) -> Sums:
    """Arrays as tensors where their layer computes: `{layer}/...`, or all beside one layer."""
    model = run.problem.model
    found = {}
    for name, value in arrays.items():
        weight: Any = model.get_submodule(layer or name.rpartition("/")[0]).weight
        device = model_device(model) if weight.is_meta else weight.device
        array = np.asarray(value)
        found[name] = torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
    return found
