"""Fitting passes: covariances, their eigenbases, then corrected eigenvalues."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from inflab import kronecker
from inflab.capture import Quantity
from inflab.device import model_device, on_cores, summing
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.memory import decompositions, give_back
from inflab.products import aligned, mirror, side_by_side
from inflab.run.kept import Kept
from inflab.run.local import Pass
from inflab.run.replay import Differs, Replays

__all__ = ["Basis", "Sums", "bases_of", "covariance_sums", "square_sums"]


@dataclass(frozen=True)
class Basis:
    """Eigendecompositions of one layer's covariances.

    Attributes:
        activation: `Q_A (i, i)`, or None for the standard basis.
        activation_eigenvalues: `(i,)`.
        gradient: `Q_S (o, o)`.
        gradient_eigenvalues: `(o,)`.
        tokens: number of tokens averaged over.
        activation_share: how much of A its diagonal blocks keep (`inflab.kronecker.block_share`); likewise
            `gradient_share` of S.
    """

    activation: Tensor | None
    activation_eigenvalues: Tensor
    gradient: Tensor | None
    gradient_eigenvalues: Tensor
    tokens: int
    activation_share: float = 1.0
    gradient_share: float = 1.0


#: What a job over some examples adds up: name -> tensor. Sums of parts are the sum over the whole.
Sums = dict[str, Tensor]


def covariance_sums(run: Pass, quantity: Quantity, positions: np.ndarray, kept: Kept | Replays | None = None) -> Sums:
    """Sums over tokens of `a_bar a_bar^T` and `Ds Ds^T`, and the number of tokens of text (GB23 eq. 16).

    Args:
        run: the pass. Layers that share an input share their first sum, under the name of the first of them.
        quantity: "pseudo_loss" (true Fisher) or "loss" (empirical).
        positions: which training examples.
        kept: keeps tokens for `square_sums`, or None.

    Returns:
        For each layer `{name}/gradient (o, o)` and `{name}/tokens ()` int64, and for the first of those that share an
        input `{name}/activation (i, i)`, or its diagonal `(i,)`.
    """
    sums: Sums = {}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        parts = {"gradient": tokens.gradient}
        if run.shared.get(layer.name, layer.name) == layer.name:
            parts["activation"] = tokens.activation
        for side, value in parts.items():
            key = f"{layer.name}/{side}"
            if key not in sums:
                sums[key] = _zeros(value, tokens.width)
            kronecker.add_second_moment(sums[key], value, tokens.is_text)
        key = f"{layer.name}/tokens"
        sums[key] = sums.get(key, 0) + tokens.is_text.sum()
        if kept is not None:
            kept.offer(index, layer, tokens)

    with kept.recording() if isinstance(kept, Replays) else nullcontext():
        run.over(run.problem.corpus, quantity, add, what="covariances", positions=positions)
    return {key: mirror(value) if value.ndim == 2 else value for key, value in sums.items()}


def bases_of(run: Pass, sums: Sums, blocks: int = 1) -> dict[str, Basis]:
    """Eigenbases of the covariances `A = E[a_bar a_bar^T]` and `S = E[Ds Ds^T]`.

    Args:
        run: gives the layers.
        sums: of `covariance_sums` over all examples; emptied on the way, to free each covariance early.
        blocks: diagonal blocks of each covariance (GB23 App. A).

    Returns:
        Layer name -> `Basis`; layers that share an input hold the same tensors.
    """
    names = [layer.name for layer in run.layers]
    counts = {name: int(sums.pop(f"{name}/tokens")) for name in names}
    wanted = [f"{name}/{side}" for name in names for side in ("gradient", "activation") if f"{name}/{side}" in sums]
    dtype = sums[f"{names[0]}/gradient"].dtype

    def decompose(key: str) -> tuple[tuple[Tensor | None, Tensor], float]:
        moment = sums.pop(key).to(dtype).div_(counts[key.rpartition("/")[0]])
        return kronecker.eigenbasis(moment, blocks), kronecker.block_share(moment, blocks)

    most = decompositions(run.problem.model, run.layers, run.budget())
    bar = tqdm(total=len(wanted), desc="eigenbases", unit="basis", disable=not run.progress, leave=False)
    found = {}
    with bar:
        for key, basis in zip(wanted, side_by_side(decompose, wanted, sums[wanted[0]].device, most), strict=True):
            found[key] = basis
            bar.update()
    bases = {}
    for name in names:
        own, share = found[f"{name}/gradient"]
        common, its = found[f"{run.shared.get(name, name)}/activation"]
        bases[name] = Basis(*common, *own, counts[name], its, share)
    give_back()  # what each core used
    return bases


def square_sums(
    run: Pass,
    quantity: Quantity,
    positions: np.ndarray,
    bases: dict[str, Basis] | None,
    kept: Kept | Replays | None = None,
) -> Sums:
    """Sums over examples of `((Q_S^T G Q_A)_oi)^2` (GB23 eqs. 20, 26); without bases, in the standard basis.

    Args:
        run: the pass.
        quantity: as for the covariances.
        positions: which training examples.
        bases: layer name -> `Basis`, or None.
        kept: tokens of the pass before, used up; a pass is made over the examples that are not there.

    Returns:
        `{name}/squares (o, i)` for each layer.
    """
    sums: Sums = {}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        own = (None, None) if bases is None else (bases[layer.name].gradient, bases[layer.name].activation)
        ready = kronecker.rotated(tokens.activation, tokens.gradient, tokens.width, *own, tokens.memo)
        key = f"{layer.name}/squares"
        if key not in sums:
            sums[key] = tokens.gradient.new_zeros(layer.outputs, layer.width)
        ready.add_squares(sums[key])

    rest = positions
    if kept is not None:
        rest = kept.rest(positions)
        n = len(positions) - len(rest)
        bar = tqdm(total=n, desc="eigenvalues", unit="example", disable=not (run.progress and n), leave=False)
        model = run.problem.model
        try:
            with bar, torch.inference_mode(False), summing(model_device(model), on_cores(model, run.dtype)):
                kept.feed(add, bar.update)
        except Differs as error:
            warnings.warn(
                f"{str(error)!r} gave other activations or gradients when it ran again on the same input; a second "
                "pass is made over all examples instead",
                stacklevel=2,
            )
            sums.clear()
            rest = positions
        give_back()
    if len(rest):
        run.over(run.problem.corpus, quantity, add, what="eigenvalues", positions=rest)
    return sums


def _zeros(value: Tensor, width: int) -> Tensor:
    if not value.is_floating_point():  # one-hot rows: counts
        return value.new_zeros(width)
    return aligned(value, value.shape[-1], value.shape[-1]).zero_()
