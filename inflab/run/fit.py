"""Fitting passes: covariances, then corrected eigenvalues (METHOD section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from inflab import kronecker
from inflab.capture import Quantity
from inflab.layer import Layer
from inflab.layout import Tokens
from inflab.run.local import Pass

__all__ = ["Basis", "covariance_bases", "mean_square_gradients"]


@dataclass(frozen=True)
class Basis:
    """Eigendecompositions of one layer's covariances.

    Attributes:
        activation: `Q_A (i, i)`, or None for the standard basis.
        activation_eigenvalues: `(i,)`.
        gradient: `Q_S (o, o)`.
        gradient_eigenvalues: `(o,)`.
        tokens: number of tokens averaged over.
    """

    activation: Tensor | None
    activation_eigenvalues: Tensor
    gradient: Tensor | None
    gradient_eigenvalues: Tensor
    tokens: int


def covariance_bases(run: Pass, quantity: Quantity, positions: np.ndarray, blocks: int = 1) -> dict[str, Basis]:
    """Eigenbases of `A = E[a_bar a_bar^T]` and `S = E[Ds Ds^T]`, averages over tokens of text (GB23 eq. 16).

    Args:
        run: the pass.
        quantity: "pseudo_loss" (true Fisher) or "loss" (empirical).
        positions: which training examples.
        blocks: diagonal blocks of each covariance (GB23 App. A).

    Returns:
        Layer name -> `Basis`.
    """
    sums: dict[str, list[Tensor]] = {}
    counts = {layer.name: 0 for layer in run.layers}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        a = kronecker.second_moment(tokens.activation, tokens.is_text, tokens.width)
        s = kronecker.second_moment(tokens.gradient, tokens.is_text, layer.outputs)
        counts[layer.name] += int(tokens.is_text.sum())
        if layer.name in sums:
            sums[layer.name][0] += a
            sums[layer.name][1] += s
        else:
            sums[layer.name] = [a, s]

    run.over(run.problem.corpus, quantity, add, what="covariances", positions=positions)
    bases: dict[str, Basis] = {}
    for layer in tqdm(run.layers, desc="eigenbases", unit="layer", disable=not run.progress, leave=False):
        # popped: a covariance is freed as soon as its eigenbasis is there
        a, s = (moment.to(sums[layer.name][1].dtype) / counts[layer.name] for moment in sums[layer.name])
        del sums[layer.name]
        activation, activation_eigenvalues = kronecker.eigenbasis(a, blocks)
        gradient, gradient_eigenvalues = kronecker.eigenbasis(s, blocks)
        bases[layer.name] = Basis(
            activation, activation_eigenvalues, gradient, gradient_eigenvalues, counts[layer.name]
        )
    return bases


def mean_square_gradients(
    run: Pass, quantity: Quantity, positions: np.ndarray, bases: dict[str, Basis] | None
) -> dict[str, Tensor]:
    """`Lambda_oi = E[((Q_S^T G Q_A)_oi)^2]`, averaged over sequences (GB23 eqs. 20, 26).

    Without bases, in the standard basis: the diagonal Fisher.

    Returns:
        Layer name -> `(o, i)`.
    """
    sums: dict[str, Tensor] = {}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        own = (None, None) if bases is None else (bases[layer.name].gradient, bases[layer.name].activation)
        grad_boi = kronecker.rotated_gradients(tokens.activation, tokens.gradient, tokens.width, *own)
        square_oi = grad_boi.square().sum(0)
        sums[layer.name] = sums[layer.name] + square_oi if layer.name in sums else square_oi

    run.over(run.problem.corpus, quantity, add, what="eigenvalues", positions=positions)
    return {name: torch.div(value, len(positions)) for name, value in sums.items()}
