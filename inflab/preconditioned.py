"""Query gradients made ready for scoring: how they are held, and their product with training gradients.

The score of a training gradient G is the sum over entries of `P * G`, with `P = (G_l + lambda I)^-1 grad f` of the
query. Each side of the product may be taken in the eigenbasis or in the layer's own basis: rotating a query back costs
once a query what rotating training tokens forward costs once a training sequence, so each side of each layer takes the
cheaper. P is dense, or of low rank (GB23 section 3.2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inflab.kronecker import Curvature, Rotated, rotated, rotates_tokens
from inflab.products import FAR, Scratch, chunks, linear

__all__ = ["Preconditioned", "Sides", "choose_sides", "joined", "low_rank", "low_rank_costs", "truncation_weights"]


@dataclass(frozen=True)
class Sides:
    """Which sides of a layer are compared in the eigenbasis: there training tokens are rotated, not queries back."""

    gradient: bool
    activation: bool


def choose_sides(
    curvature: Curvature, shape: tuple[int, int], queries: int, examples: int, tokens: float, rank: int | None = None
) -> Sides:
    """Where the queries are met, by multiplications.

    Args:
        curvature: of the layer.
        shape: `(o, i)`.
        queries: how many are rotated back otherwise, `o i d` each for a side of length d, `rank d^2` at low rank.
        examples: training sequences, `d^2 min(tokens, other)` each.
        tokens: of one training sequence.
        rank: of the queries, or None.

    Returns:
        The cheaper side for gradients and for activations.
    """
    outputs, width = shape

    def forward_is_cheaper(other: int) -> bool:
        back = other if rank is None else min(rank, *shape)
        return examples * (tokens if rotates_tokens(int(tokens), other) else other) < queries * back

    return Sides(
        gradient=curvature.gradient_basis is not None and forward_is_cheaper(width),
        activation=curvature.activation_basis is not None and forward_is_cheaper(outputs),
    )


@dataclass(frozen=True)
class Preconditioned:
    """`(G + lambda I)^-1 grad f` of each query for one layer.

    Attributes:
        curvature: of the layer.
        sides: which sides are in the eigenbasis.
        dense: `(q, o, i)`, or None when held in low rank.
        left: `(q, o, r)`, or None; likewise `right (q, r, i)`.
        lost: `(q,)`, squared norm of what truncation dropped, and `whole (q,)` of all, in the norm it minimises.
        residual: `(q,)`, relative residual over all layers of what was solved for iteratively, or None.
    """

    curvature: Curvature
    sides: Sides
    dense: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    lost: Tensor | None = None
    whole: Tensor | None = None
    residual: Tensor | None = None

    def __len__(self) -> int:
        held = self.left if self.dense is None else self.dense
        assert held is not None
        return len(held)

    def to_dense(self, rows: slice | Tensor = slice(None)) -> Tensor:
        """The matrices of some queries, `(q, o, i)`."""
        if self.dense is not None:
            return self.dense[rows]
        assert self.left is not None and self.right is not None
        return self.left[rows] @ self.right[rows]

    def meet(
        self, activation: Tensor, gradient_bto: Tensor, width: int, memo: dict[int, Tensor] | None = None
    ) -> Rotated:
        """A training batch rotated where these queries wait for it."""
        gradient_basis = self.curvature.gradient_basis if self.sides.gradient else None
        activation_basis = self.curvature.activation_basis if self.sides.activation else None
        return rotated(activation, gradient_bto, width, gradient_basis, activation_basis, memo)

    def scores(self, train: Rotated, scratch: Scratch | None = None) -> Tensor:
        """Sum over entries of `P * G` for each query and training example, `(q, b)`."""
        if self.left is not None and self._takes_tokens(train):
            return self._token_scores(train)
        found = train.gradient.new_empty(len(self), len(train.gradient))
        for part, grad_boi in train.parts(size=FAR, scratch=scratch):
            flat_bp = grad_boi.reshape(len(grad_boi), -1)
            if self.dense is not None:
                found[:, part] = linear(self.dense.flatten(1), flat_bp)
                continue
            for rows in chunks(len(self), 2 * flat_bp.element_size() * flat_bp.shape[1], device=flat_bp.device):
                found[rows, part] = linear(self.to_dense(rows).flatten(1), flat_bp)
        return found

    def _takes_tokens(self, train: Rotated) -> bool:
        """Whether `g_t . u_r` times `v_r . a_t` over tokens and ranks is cheaper than gradients against matrices."""
        assert self.left is not None
        if train.left is not None or train.right is not None or not train.activation.is_floating_point():
            return False
        (examples, tokens, outputs), rank = train.gradient.shape, self.left.shape[2]
        by_token, by_gradient = low_rank_costs(len(self), rank, examples, tokens, (outputs, train.width))
        return by_token < by_gradient

    def _token_scores(self, train: Rotated) -> Tensor:
        assert self.left is not None and self.right is not None
        g_bto, a_bti = train.gradient, train.activation
        n, tokens, outputs = g_bto.shape
        rank = self.left.shape[2]
        found = g_bto.new_empty(len(self), n)
        for rows in chunks(len(self), 2 * n * tokens * rank * g_bto.element_size(), device=g_bto.device):
            left_ox = self.left[rows].transpose(0, 1).reshape(outputs, -1)
            right_xi = self.right[rows].reshape(-1, train.width)
            both = (g_bto @ left_ox).mul_(a_bti @ right_xi.T)
            found[rows] = both.view(n, tokens, -1, rank).sum((1, 3)).T
        return found


def joined(parts: Sequence[Preconditioned]) -> Preconditioned:
    """Queries of several parts, in order; all with the same curvature and sides."""
    held: dict[str, Any] = {}
    for name in ("dense", "left", "right", "lost", "whole", "residual"):
        values = [getattr(part, name) for part in parts]
        if values[0] is not None:
            held[name] = torch.cat(values)
    return replace(parts[0], **held)


def low_rank_costs(
    queries: int, rank: int, examples: int, tokens: float, shape: tuple[int, int]
) -> tuple[float, float]:
    """Multiplications of a batch against queries of low rank, by either route.

    Args:
        queries: how many.
        rank: of each.
        examples: in the batch.
        tokens: of one.
        shape: `(o, i)` of the layer.

    Returns:
        Token by token, `g_t . u_r` times `v_r . a_t`; and with gradients formed and queries written out.
    """
    outputs, width = shape
    entries = outputs * width
    by_token = queries * examples * tokens * rank * (outputs + width)
    return by_token, queries * (rank + examples) * entries + examples * tokens * entries


def truncation_weights(curvature: Curvature) -> tuple[Tensor, Tensor] | None:
    """Square roots of `L_S (o,)` and `L_A (i,)`: how large training gradients are along each axis of the eigenbasis.

    Truncating `S^1/2 P A^1/2` instead of P minimises the error of scores instead of that of P.

    Returns:
        The weights, or None where the curvature has no such eigenvalues.
    """
    values = curvature.gradient_eigenvalues, curvature.activation_eigenvalues
    if values[0] is None or values[1] is None:
        return None
    # Axes without any variance carry no score; the floor keeps mapping back finite.
    roots = [value.clamp(min=1e-6 * float(value.max()) or 1).sqrt() for value in values if value is not None]
    return roots[0], roots[1]


def low_rank(
    value_qoi: Tensor, rank: int, weights: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best approximation of each matrix by one of the given rank, by singular value decomposition.

    Args:
        value_qoi: `(q, o, i)`.
        rank: at least 1; more than the smaller side is the smaller side.
        weights: `(o,)` and `(i,)` positive: the approximation is best in the norm of `w_o V w_i`.

    Returns:
        `(q, o, r)` and `(q, r, i)`, whose product is the approximation; and `(q,)` squared norms, of what is lost and
        of the whole.
    """
    outputs, width = value_qoi.shape[1:]
    rank = min(rank, outputs, width)
    if weights is not None:
        value_qoi = value_qoi * weights[0][:, None] * weights[1]
    # Eigenvectors of the smaller Gram matrix span the leading singular subspace, at a tenth of the cost of the SVD.
    # In float64 the SVD itself: rounding of the Gram matrix would show.
    if value_qoi.dtype == torch.float64:
        u_qor, size_qr, v_qri = torch.linalg.svd(value_qoi, full_matrices=False)
        left, right = u_qor[..., :rank] * size_qr[:, None, :rank], v_qri[:, :rank]
    elif width <= outputs:
        right = torch.linalg.eigh(value_qoi.transpose(1, 2) @ value_qoi)[1][..., -rank:].transpose(1, 2)
        left = value_qoi @ right.transpose(1, 2)
    else:
        left = torch.linalg.eigh(value_qoi @ value_qoi.transpose(1, 2))[1][..., -rank:]
        right = left.transpose(1, 2) @ value_qoi
    whole_q = value_qoi.square().sum((1, 2))
    kept_q = (left if width <= outputs or value_qoi.dtype == torch.float64 else right).square().sum((1, 2))
    if weights is not None:
        left, right = left / weights[0][:, None], right / weights[1]
    return left.contiguous(), right.contiguous(), (whole_q - kept_q).clamp(min=0), whole_q
