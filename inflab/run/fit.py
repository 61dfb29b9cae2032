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
    """

    activation: Tensor | None
    activation_eigenvalues: Tensor
    gradient: Tensor | None
    gradient_eigenvalues: Tensor
    tokens: int


#: What a job over some examples adds up: name -> tensor. Sums of parts are the sum over the whole.
Sums = dict[str, Tensor]


def covariance_sums(run: Pass, quantity: Quantity, positions: np.ndarray) -> Sums:
    """Sums over tokens of `a_bar a_bar^T` and `Ds Ds^T`, and the number of tokens of text (GB23 eq. 16).

    Args:
        run: the pass.
        quantity: "pseudo_loss" (true Fisher) or "loss" (empirical).
        positions: which training examples.

    Returns:
        For each layer `{name}/activation (i, i)` (or its diagonal `(i,)`), `{name}/gradient (o, o)` and
        `{name}/tokens ()` int64.
    """
    sums: Sums = {}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        a = kronecker.second_moment(tokens.activation, tokens.is_text, tokens.width)
        s = kronecker.second_moment(tokens.gradient, tokens.is_text, layer.outputs)
        found = {"activation": a, "gradient": s, "tokens": tokens.is_text.sum()}
        for what, value in found.items():
            key = f"{layer.name}/{what}"
            sums[key] = sums[key] + value if key in sums else value

    run.over(run.problem.corpus, quantity, add, what="covariances", positions=positions)
    return sums


def bases_of(run: Pass, sums: Sums, blocks: int = 1) -> dict[str, Basis]:
    """Eigenbases of the covariances `A = E[a_bar a_bar^T]` and `S = E[Ds Ds^T]`.

    Args:
        run: gives the layers.
        sums: of `covariance_sums` over all examples; emptied on the way, to free each covariance early.
        blocks: diagonal blocks of each covariance (GB23 App. A).

    Returns:
        Layer name -> `Basis`.
    """
    bases: dict[str, Basis] = {}
    for layer in tqdm(run.layers, desc="eigenbases", unit="layer", disable=not run.progress, leave=False):
        tokens = int(sums.pop(f"{layer.name}/tokens"))
        s = sums.pop(f"{layer.name}/gradient") / tokens
        a = sums.pop(f"{layer.name}/activation").to(s.dtype) / tokens
        activation, activation_eigenvalues = kronecker.eigenbasis(a, blocks)
        gradient, gradient_eigenvalues = kronecker.eigenbasis(s, blocks)
        bases[layer.name] = Basis(activation, activation_eigenvalues, gradient, gradient_eigenvalues, tokens)
    return bases


def square_sums(run: Pass, quantity: Quantity, positions: np.ndarray, bases: dict[str, Basis] | None) -> Sums:
    """Sums over examples of `((Q_S^T G Q_A)_oi)^2` (GB23 eqs. 20, 26); without bases, in the standard basis.

    Returns:
        `{name}/squares (o, i)` for each layer.
    """
    sums: Sums = {}

    def add(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        own = (None, None) if bases is None else (bases[layer.name].gradient, bases[layer.name].activation)
        grad_boi = kronecker.rotated_gradients(tokens.activation, tokens.gradient, tokens.width, *own)
        square_oi = grad_boi.square().sum(0)
        key = f"{layer.name}/squares"
        sums[key] = sums[key] + square_oi if key in sums else square_oi

    run.over(run.problem.corpus, quantity, add, what="eigenvalues", positions=positions)
    return sums
