"""The mathematics of one layer on plain tensors: covariances, eigenbases, inverse products, contractions.

No arrays with names, no files, no model. Suffixes name a tensor's axes: b example, t token, i activation,
o gradient, q query, r rank. `A = E[a_bar a_bar^T]`, `S = E[Ds Ds^T]` over tokens; `Lambda` over sequences; and
`(G + lambda I)^-1 V = Q_S [ (Q_S^T V Q_A) / (Lambda + lambda) ] Q_A^T` (GB23 eqs. 16-21).

A basis of None is the standard basis. An integer activation `(b, t)` is a one-hot row by its index.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Curvature",
    "eigenbasis",
    "example_gradients",
    "pair_influence",
    "rotate",
    "rotated_gradients",
    "second_moment",
    "token_influence",
    "truncate",
]


def second_moment(value: Tensor, is_text_bt: Tensor, width: int) -> Tensor:
    """Sum over tokens of the outer product with itself.

    Args:
        value: `(b, t, width)`, zero where not text; or int64 `(b, t)` of one-hot indices.
        is_text_bt: bool; which tokens count.
        width: length of a row.

    Returns:
        `(width, width)`, or its diagonal `(width,)` for one-hot rows, whose off-diagonal is zero.
    """
    if not value.is_floating_point():
        return torch.bincount(value[is_text_bt], minlength=width)
    flat_ti = value.reshape(-1, width)
    return flat_ti.T @ flat_ti


def eigenbasis(moment: Tensor, blocks: int = 1) -> tuple[Tensor | None, Tensor]:
    """Eigenvectors (columns, ascending) and eigenvalues of a covariance, cut into diagonal blocks (GB23 App. A).

    Args:
        moment: `(n, n)` symmetric positive semi-definite, or `(n,)` when it is diagonal.
        blocks: number of diagonal blocks of nearly equal size; 1 keeps the whole matrix.

    Returns:
        `(n, n)` eigenvectors, None for the standard basis, and `(n,)` eigenvalues; computed in float64, clipped at
        zero (rounding can leave tiny negative ones), in the dtype of `moment`.
    """
    if moment.ndim == 1:
        return None, moment
    vectors = torch.zeros_like(moment)
    values = moment.new_zeros(len(moment))
    for place in torch.arange(len(moment), device=moment.device).tensor_split(blocks):
        block = moment[place[:, None], place].double()
        value, vector = torch.linalg.eigh((block + block.T) / 2)
        vectors[place[:, None], place] = vector.to(moment.dtype)
        values[place] = value.clamp(min=0).to(moment.dtype)
    return vectors, values


def example_gradients(activation: Tensor, gradient_bto: Tensor, width: int) -> Tensor:
    """Gradient of each example, `(b, o, width)`: the sum over its tokens of `Ds a_bar^T`."""
    if activation.is_floating_point():
        return gradient_bto.transpose(1, 2) @ activation
    n, _, outputs = gradient_bto.shape
    grad_bio = gradient_bto.new_zeros(n, width, outputs)
    index = activation.unsqueeze(-1).expand_as(gradient_bto)
    return grad_bio.scatter_add_(1, index, gradient_bto).transpose(1, 2)


def rotate(value_boi: Tensor, gradient_basis: Tensor | None, activation_basis: Tensor | None) -> Tensor:
    """`Q_S^T V Q_A` of each matrix `V (o, i)` in the batch."""
    if gradient_basis is not None:
        value_boi = gradient_basis.T @ value_boi
    return value_boi if activation_basis is None else value_boi @ activation_basis


def rotated_gradients(
    activation: Tensor, gradient_bto: Tensor, width: int, gradient_basis: Tensor | None, activation_basis: Tensor | None
) -> Tensor:
    """Gradient of each example in the eigenbasis, `Q_S^T G Q_A`, by the route of fewer multiplications.

    Rotating t tokens first takes `t (i^2 + o^2)` of them, rotating the formed gradient `i o (i + o)`; forming it takes
    `t i o` either way (METHOD section 4). Short texts in wide layers gain most.

    Args:
        activation: `(b, t, i)`, or int64 `(b, t)` of one-hot indices.
        gradient_bto: `(b, t, o)`.
        width: i.
        gradient_basis: `(o, o)`, or None.
        activation_basis: `(i, i)`, or None.

    Returns:
        `(b, o, i)`.
    """
    tokens, outputs = gradient_bto.shape[1:]
    can_rotate = activation.is_floating_point() or activation_basis is None
    if can_rotate and tokens * (width**2 + outputs**2) <= width * outputs * (width + outputs):
        g_bto = gradient_bto if gradient_basis is None else gradient_bto @ gradient_basis
        a = activation if activation_basis is None else activation @ activation_basis
        return example_gradients(a, g_bto, width)
    return rotate(example_gradients(activation, gradient_bto, width), gradient_basis, activation_basis)


def token_influence(matrix_boi: Tensor, activation: Tensor, gradient_bto: Tensor) -> Tensor:
    """What each token adds to the product of its example's gradient with a matrix: `Ds_t^T M a_t`.

    Args:
        matrix_boi: `(b, o, i)`, one matrix an example: a preconditioned query gradient.
        activation: `(b, t, i)` or int64 `(b, t)`.
        gradient_bto: `(b, t, o)`.

    Returns:
        `(b, t)`.
    """
    if activation.is_floating_point():
        return ((gradient_bto @ matrix_boi) * activation).sum(-1)
    index = activation.unsqueeze(1).expand(-1, matrix_boi.shape[1], -1)
    return (gradient_bto * matrix_boi.gather(2, index).transpose(1, 2)).sum(-1)


def truncate(value_qoi: Tensor, rank: int) -> Tensor:
    """Best approximation of each matrix by one of the given rank: truncated SVD (GB23 section 3.2.2)."""
    if rank >= min(value_qoi.shape[1:]):
        return value_qoi
    left, size, right = torch.linalg.svd(value_qoi, full_matrices=False)
    cut: Tensor = (left[..., :rank] * size[:, None, :rank]) @ right[:, :rank]
    return cut


@dataclass(frozen=True)
class Curvature:
    """Approximate curvature of one layer, ready to be inverted.

    Attributes:
        gradient_basis: `Q_S (o, o)` with eigenvectors as columns, or None.
        activation_basis: `Q_A (i, i)`, or None.
        eigenvalues: `Lambda (o, i)` in that basis, or None for the identity matrix.
        damping: the absolute lambda that is added to every eigenvalue.
    """

    gradient_basis: Tensor | None
    activation_basis: Tensor | None
    eigenvalues: Tensor | None
    damping: float

    def precondition(self, value_boi: Tensor) -> Tensor:
        """`(G + lambda I)^-1 V` of each matrix in the batch (GB23 eq. 21)."""
        return self.restore(rotate(value_boi, self.gradient_basis, self.activation_basis))

    def rotated_gradients(self, activation: Tensor, gradient_bto: Tensor, width: int) -> Tensor:
        """Gradient of each example in this curvature's eigenbasis, `(b, o, i)`."""
        return rotated_gradients(activation, gradient_bto, width, self.gradient_basis, self.activation_basis)

    def restore(self, rotated_boi: Tensor) -> Tensor:
        """Divide by `Lambda + lambda` in the eigenbasis and rotate back: `(G + lambda I)^-1 V` from `Q_S^T V Q_A`."""
        back = None if self.activation_basis is None else self.activation_basis.T
        scaled_boi = rotated_boi if self.eigenvalues is None else rotated_boi / (self.eigenvalues + self.damping)
        return rotate(scaled_boi, None if self.gradient_basis is None else self.gradient_basis.T, back)

    def norm(self, rotated_boi: Tensor) -> Tensor:
        """`V^T (G + lambda I)^-1 V` from `Q_S^T V Q_A` of each matrix, `(b,)`: self-influence, never rotated back."""
        if self.eigenvalues is None:
            return rotated_boi.square().sum((1, 2))
        return (rotated_boi.square() / (self.eigenvalues + self.damping)).sum((1, 2))

    def is_singular(self) -> bool:
        """Whether the inverse does not exist: no damping, and an eigenvalue that is zero up to rounding."""
        if self.eigenvalues is None or self.damping > 0:
            return False
        rounding = torch.finfo(self.eigenvalues.dtype).eps * self.eigenvalues.max()
        return bool(self.eigenvalues.min() <= rounding)


def pair_influence(
    curvature: Curvature, query: tuple[Tensor, Tensor, int], train: tuple[Tensor, Tensor, int]
) -> Tensor:
    """Which query token meets which training token, for one pair (METHOD section 5).

    `I[s, t] = Ds_s^T [(G + lambda)^-1 (Ds_t a_t^T)] a_s`; rows and columns sum to the one-sided attributions.

    Args:
        curvature: of the layer.
        query: activation `(s, i)` or int64 `(s,)`, gradient `(s, o)` of the query, and the width i.
        train: the same of the training sequence.

    Returns:
        `(query_token, token)`.
    """
    (a_s, g_s, width), (a_t, g_t, _) = query, train
    a_s, a_t = (a if a.is_floating_point() else torch.nn.functional.one_hot(a, width).to(g_s.dtype) for a in (a_s, a_t))
    if curvature.eigenvalues is None:
        return (g_s @ g_t.T) * (a_s @ a_t.T)
    if curvature.activation_basis is not None:
        a_s, a_t = a_s @ curvature.activation_basis, a_t @ curvature.activation_basis
    if curvature.gradient_basis is not None:
        g_s, g_t = g_s @ curvature.gradient_basis, g_t @ curvature.gradient_basis
    inverse_oi = 1 / (curvature.eigenvalues + curvature.damping)
    # sum_oi g_so g_to R_oi a_si a_ti; one query token at a time keeps memory at (t, i).
    return torch.stack([((g_t * g) @ inverse_oi * a_t) @ a for g, a in zip(g_s, a_s, strict=True)])
