"""Passes for an index: which coordinates it keeps, the codes of training sequences, the coordinates of queries.

Which coordinates, and how finely, follows from the factors alone (`inflab.sketch`): no pass is needed to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab.capture import Quantity
from inflab.errors import SettingError
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.run.ledger import Arrays
from inflab.run.local import Pass
from inflab.sketch import BITS, Queries, allocate, encode, expected_error, row_bytes

__all__ = ["Group", "IndexSpec", "Sample", "choose", "coordinates", "index_rows", "kept"]


@dataclass(frozen=True)
class Group:
    """Coordinates of one layer that are kept in the same number of bits: they stand together in a row.

    Attributes:
        layer: its name.
        bits: of each coordinate.
        place: `(k,)` int64, ascending: the coordinates, as places in the flattened `(gradient_eigen,
            activation_eigen)`.
        start: the first byte of a row.
    """

    layer: str
    bits: int
    place: np.ndarray
    start: int

    @property
    def bytes(self) -> slice:
        """Which bytes of a row."""
        return slice(self.start, self.start + row_bytes(len(self.place), self.bits))


@dataclass(frozen=True)
class IndexSpec:
    """What an index holds of each sequence.

    Attributes:
        groups: in the order of layers, then bits.
        dense: number of coordinates of a whole gradient.
        kept_energy: share of the mean energy of a gradient that the kept coordinates have.
        expected_error: mean square error of a score as a share of its mean square, expected from the energies.
    """

    groups: tuple[Group, ...]
    dense: int
    kept_energy: float
    expected_error: float

    @property
    def width(self) -> int:
        """Bytes of a row of codes."""
        return int(self.groups[-1].bytes.stop)

    @property
    def share(self) -> float:
        """Bytes of a sequence, its scales too, as a share of its gradient in float32."""
        return (self.width + 4 * len(self.groups)) / (4 * self.dense)


@dataclass(frozen=True)
class Sample:
    """Training sequences that serve as queries, to measure how well an index orders the others.

    Attributes:
        gradients: layer -> `(sample, k)`, whole, of `coordinates`.
        queries: for each group, the same ready for products with codes.
    """

    gradients: Mapping[str, Tensor]
    queries: Sequence[Queries]

    @classmethod
    def of(cls, gradients: Mapping[str, Tensor], spec: IndexSpec) -> Sample:
        """From whole gradients."""
        chosen = (_chosen(gradients[group.layer], group).cpu() for group in spec.groups)
        return cls(
            gradients, [Queries.of(value_sk, group.bits) for value_sk, group in zip(chosen, spec.groups, strict=True)]
        )


def choose(curvatures: Mapping[str, Curvature], layers: Sequence[Layer], size: float) -> IndexSpec:
    """Choose coordinates and bits.

    Args:
        curvatures: of each layer.
        layers: in order.
        size: bytes of a sequence as a share of its gradient in float32.

    Returns:
        An `IndexSpec` of at most that share, up to a byte a group.

    Raises:
        SettingError: when not a single coordinate fits, or the method has no eigenvalues.
    """
    energies = [_energy(curvatures[layer.name], layer) for layer in layers]
    energy_k = np.concatenate(energies)
    budget = int(size * 32 * len(energy_k)) - 32 * len(BITS) * len(layers)
    bits_k = allocate(energy_k, max(budget, 0))
    if not bits_k.any():
        raise SettingError(
            f"size={size!r} leaves no room for a single coordinate in gradients of {len(energy_k):,} numbers; "
            "choose a larger one"
        )
    groups: list[Group] = []
    start = first = 0
    for layer, energy in zip(layers, energies, strict=True):
        mine = bits_k[first : first + len(energy)]
        first += len(energy)
        for bits in BITS:
            place = np.flatnonzero(mine == bits)
            if len(place):
                groups.append(Group(layer.name, bits, place, start))
                start = groups[-1].bytes.stop
    return IndexSpec(tuple(groups), len(energy_k), _share(energy_k, bits_k), expected_error(energy_k, bits_k))


def kept(curvatures: Mapping[str, Curvature], layers: Sequence[Layer], groups: Sequence[Group]) -> tuple[float, float]:
    """What coordinates that were chosen under another damping are worth under this one.

    Args:
        curvatures: of each layer.
        layers: in order.
        groups: the chosen coordinates.

    Returns:
        `kept_energy` and `expected_error`, as of `IndexSpec`.
    """
    energies = {layer.name: _energy(curvatures[layer.name], layer) for layer in layers}
    bits = {name: np.zeros(len(energy), dtype=np.uint8) for name, energy in energies.items()}
    for group in groups:
        bits[group.layer][group.place] = group.bits
    energy_k, bits_k = np.concatenate([*energies.values()]), np.concatenate([*bits.values()])
    return _share(energy_k, bits_k), expected_error(energy_k, bits_k)


def index_rows(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    spec: IndexSpec,
    sample: Sample,
    train: xr.Dataset | None,
    positions: np.ndarray,
) -> Arrays:
    """What an index holds of some training sequences.

    Args:
        run: the pass.
        curvatures: of each layer.
        spec: which coordinates, in how many bits.
        sample: sequences that serve as queries.
        train: the training sequences; None is the problem's corpus.
        positions: which of them, ascending.

    Returns:
        `index_code (position, byte)` uint8, `index_scale (position, group)` float32, and the influence of each on each
        of the sample, float32: `index_exact (position, sample)` and, from the codes, `index_sketched`.
    """
    n, n_sample = len(positions), len(next(iter(sample.gradients.values())))
    code = np.empty((n, spec.width), dtype=np.uint8)
    scale = np.empty((n, len(spec.groups)), dtype=np.float32)
    # By layer: a batch that runs out of memory half way is done again, and nothing may be added twice.
    place = {layer.name: row for row, layer in enumerate(run.layers)}
    exact, sketched = np.zeros((2, len(place), n, n_sample), dtype=np.float32)

    def keep(layer: str, index: np.ndarray, value_bk: Tensor) -> None:
        rows = np.searchsorted(positions, index)
        product_bs = (value_bk @ sample.gradients[layer].T).cpu().numpy()
        approximate_bs = np.zeros_like(product_bs)
        for number, group in enumerate(spec.groups):
            if group.layer == layer:
                code_bk, step_b = (part.cpu() for part in encode(_chosen(value_bk, group), group.bits))
                code[rows, group.bytes], scale[rows, number] = code_bk.numpy(), step_b.numpy()
                approximate_bs += (
                    (sample.queries[number].multiply(code_bk) * step_b.double().unsqueeze(1)).float().numpy()
                )
        # Losses on both sides: their minus signs cancel.
        exact[place[layer], rows], sketched[place[layer], rows] = product_bs, approximate_bs

    corpus = run.problem.corpus if train is None else train
    _over(run, curvatures, corpus, "loss", keep, positions, what="index")
    return {"index_code": code, "index_scale": scale, "index_exact": exact.sum(0), "index_sketched": sketched.sum(0)}


def coordinates(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    corpus: xr.Dataset,
    groups: Sequence[Group] | None,
    *,
    quantity: Quantity,
    positions: np.ndarray,
    made: Mapping[str, float] | None = None,
) -> Any:
    """Gradients in the eigenbasis over `sqrt(Lambda + lambda)`: their dot products are influences.

    Where the others were divided by `sqrt(Lambda + lambda_0)`, these are by `(Lambda + lambda) / sqrt(Lambda +
    lambda_0)`: the dot products are those under lambda.

    Args:
        run: the pass.
        curvatures: of each layer.
        corpus: queries, or training sequences that serve as such.
        groups: which coordinates; None keeps all.
        quantity: what is differentiated.
        positions: which rows of the corpus.
        made: layer -> lambda_0; None where it is the same lambda.

    Returns:
        With groups, a tensor `(position, k)` on the CPU for each; without, layer -> `(position, k)` beside the layer.
    """
    row_of = {int(position): row for row, position in enumerate(positions)}
    held: dict[Any, Tensor] = {}

    def put(key: Any, rows: Tensor, value_bk: Tensor) -> None:
        if key not in held:
            held[key] = value_bk.new_empty(len(positions), value_bk.shape[1])
        held[key][rows.to(value_bk.device)] = value_bk

    def keep(layer: str, index: np.ndarray, value_bk: Tensor) -> None:
        rows = torch.tensor([row_of[int(position)] for position in index])
        if groups is None:
            put(layer, rows, value_bk)
            return
        for number, group in enumerate(groups):
            if group.layer == layer:
                put(number, rows, _chosen(value_bk, group).cpu())

    _over(run, curvatures, corpus, quantity, keep, positions, what="queries" if groups else "sample", made=made)
    return held if groups is None else [held[number] for number in range(len(groups))]


def _over(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    corpus: xr.Dataset,
    quantity: Quantity,
    keep: Callable[[str, np.ndarray, Tensor], None],
    positions: np.ndarray,
    what: str,
    made: Mapping[str, float] | None = None,
) -> None:
    """A pass that hands on the whitened gradients of a layer, some examples at a time, `(b, o i)` in float32."""
    weights = {}
    for name, curvature in curvatures.items():
        if curvature.eigenvalues is not None:
            weights[name] = (curvature.eigenvalues + curvature.damping).rsqrt()
            before = curvature.damping if made is None else made[name]
            if before != curvature.damping:
                weights[name] = weights[name].square().mul_((curvature.eigenvalues + before).sqrt())

    def sink(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        ready = curvatures[layer.name].rotated(tokens.activation, tokens.gradient, tokens.width, tokens.memo)
        for part, grad_boi in ready.parts():
            keep(layer.name, index[part], grad_boi.mul_(weights[layer.name]).flatten(1).float())

    run.over(corpus, quantity, sink, what=what, positions=positions)


def _chosen(value_bk: Tensor, group: Group) -> Tensor:
    return value_bk.index_select(1, torch.from_numpy(group.place).to(value_bk.device))


def _share(energy_k: np.ndarray, bits_k: np.ndarray) -> float:
    """The energy of kept coordinates as a share of all."""
    return float(energy_k[bits_k > 0].sum(dtype=np.float64) / energy_k.sum(dtype=np.float64))


def _energy(curvature: Curvature, layer: Layer) -> np.ndarray:
    """Mean square of each coordinate of a whitened gradient, as the factors have it: `Lambda / (Lambda + lambda)`."""
    if curvature.eigenvalues is None:
        raise SettingError(
            f"layer {layer.name!r} has no eigenvalues, which say what an index should keep; fit EKFAC, KFAC or Diagonal"
        )
    value = curvature.eigenvalues.flatten().double()
    damped = (value + curvature.damping).clamp(min=torch.finfo(torch.float64).tiny)
    energy: np.ndarray = (value / damped).float().cpu().numpy()
    return energy
