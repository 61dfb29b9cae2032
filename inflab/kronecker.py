"""The mathematics of one layer on plain tensors: covariances, eigenbases, inverse products, contractions.

No arrays with names, no files, no model. Suffixes name a tensor's axes: b example, t token, i activation,
o gradient, q query, r rank. `A = E[a_bar a_bar^T]`, `S = E[Ds Ds^T]` over tokens; `Lambda` over sequences; and
`(G + lambda I)^-1 V = Q_S [ (Q_S^T V Q_A) / (Lambda + lambda) ] Q_A^T` (GB23 eqs. 16-21).

A basis of None is the standard basis. An integer activation `(b, t)` is a one-hot row by its index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inflab.products import NEAR, Scratch, add_gram, add_squares, chunks, matmul, product, right_side, uses_onednn

__all__ = [
    "Curvature",
    "Rotated",
    "add_second_moment",
    "block_share",
    "eigenbasis",
    "example_gradients",
    "pair_influence",
    "rotate",
    "rotated",
    "rotates_tokens",
    "token_influence",
]


def add_second_moment(total: Tensor, value: Tensor, is_text_bt: Tensor) -> None:
    """Add the sum over tokens of the outer product of a row with itself.

    Args:
        total: `(width, width)`, whose upper blocks are added to (`inflab.products.mirror` completes it); or `(width,)`
            for one-hot rows, whose off-diagonal is zero.
        value: `(b, t, width)`, zero where not text; or int64 `(b, t)` of one-hot indices.
        is_text_bt: bool; which tokens count.
    """
    if value.is_floating_point():
        add_gram(total, value.reshape(-1, value.shape[-1]))
    else:
        total += torch.bincount(value[is_text_bt], minlength=len(total))


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
    vectors = right_side(moment, *moment.shape).zero_()
    values = moment.new_zeros(len(moment))
    for place in torch.arange(len(moment), device=moment.device).tensor_split(blocks):
        block = moment[place[:, None], place].double()
        value, vector = torch.linalg.eigh((block + block.T) / 2)
        vectors[place[:, None], place] = vector.to(moment.dtype)
        values[place] = value.clamp(min=0).to(moment.dtype)
    return vectors, values


def block_share(moment: Tensor, blocks: int) -> float:
    """How much of a covariance its diagonal blocks keep: their share of its squared Frobenius norm (GB23 App. A)."""
    if moment.ndim == 1 or blocks == 1:
        return 1.0
    places = torch.arange(len(moment), device=moment.device).tensor_split(blocks)
    kept = sum(float(moment[place[:, None], place].double().square().sum()) for place in places)
    whole = float(moment.double().square().sum())
    return kept / whole if whole > 0 else 1.0


def example_gradients(activation: Tensor, gradient_bto: Tensor, width: int) -> Tensor:
    """Gradient of each example, `(b, o, width)`: the sum over its tokens of `Ds a_bar^T`."""
    if activation.is_floating_point():
        return matmul(gradient_bto.transpose(1, 2), activation)
    n, _, outputs = gradient_bto.shape
    grad_bio = gradient_bto.new_zeros(n, width, outputs)
    index = activation.unsqueeze(-1).expand_as(gradient_bto)
    return grad_bio.scatter_add_(1, index, gradient_bto).transpose(1, 2)


def rotate(value_boi: Tensor, gradient_basis: Tensor | None, activation_basis: Tensor | None) -> Tensor:
    """`Q_S^T V Q_A` of each matrix `V (o, i)` in the batch."""
    if gradient_basis is not None:
        value_boi = matmul(gradient_basis.T, value_boi)
    if activation_basis is None:
        return value_boi
    multiply = product if uses_onednn(activation_basis.T, value_boi) else matmul
    return multiply(value_boi, activation_basis)


@dataclass(frozen=True)
class Rotated:
    """One batch of one layer with each side rotated by the cheaper way, before gradients are formed.

    A side is rotated token by token, `t d^2` multiplications, or after the gradient is formed, `i o d`: short texts in
    wide layers gain most by the first. Both sides are chosen alone. One token an example needs no
    gradient at all.

    Attributes:
        activation: `(b, t, i)`, or int64 `(b, t)` of one-hot indices.
        gradient: `(b, t, o)`.
        width: i.
        left: `(o, o)` still to be applied to formed gradients, or None.
        right: `(i, i)`, likewise.
    """

    activation: Tensor
    gradient: Tensor
    width: int
    left: Tensor | None
    right: Tensor | None

    @property
    def is_one_token(self) -> bool:
        """Whether each gradient is a single outer product."""
        rotated = self.left is None and self.right is None
        return rotated and self.gradient.shape[1] == 1 and self.activation.is_floating_point()

    def parts(
        self, into: Tensor | None = None, size: int = NEAR, scratch: Scratch | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Gradients `(b, o, i)` in the eigenbasis, some examples at a time.

        Args:
            into: `(b, o, i)`, where they are formed when nothing is to be rotated after that; or None.
            size: bytes of gradients at a time.
            scratch: where they may be formed instead, when none is needed after the next; or None.

        Yields:
            Which examples, and their gradients.
        """
        n, _, outputs = self.gradient.shape
        direct = self.left is None and self.right is None and self.activation.is_floating_point()
        for part in chunks(n, outputs * self.width * self.gradient.element_size(), size, self.gradient.device):
            there = None if into is None else into[part]
            if direct and there is None and scratch is not None:
                there = scratch.take(self.gradient, part.stop - part.start, outputs, self.width)
            if direct and there is not None:
                yield part, matmul(self.gradient[part].transpose(1, 2), self.activation[part], there)
                continue
            formed = example_gradients(self.activation[part], self.gradient[part], self.width)
            yield part, rotate(formed, self.left, self.right)

    def add_squares(self, total_oi: Tensor) -> None:
        """Add the sum over examples of each squared entry (GB23 eq. 20)."""
        if self.is_one_token:
            total_oi.addmm_(self.gradient[:, 0].square().T, self.activation[:, 0].square())
            return
        for _, grad_boi in self.parts():
            add_squares(total_oi, grad_boi)

    def norms(self, weight_oi: Tensor | None) -> Tensor:
        """Sum of `weight * entry ** 2` of each example, `(b,)`; a weight of None is one."""
        if self.is_one_token:
            g_bo, a_bi = self.gradient[:, 0].square(), self.activation[:, 0].square()
            if weight_oi is None:
                return g_bo.sum(1) * a_bi.sum(1)
            return ((g_bo @ weight_oi) * a_bi).sum(1)
        found = self.gradient.new_empty(len(self.gradient))
        for part, grad_boi in self.parts():
            square = grad_boi.mul_(grad_boi).flatten(1)
            found[part] = square.sum(1) if weight_oi is None else square @ weight_oi.flatten()
        return found


def rotated(
    activation: Tensor,
    gradient_bto: Tensor,
    width: int,
    gradient_basis: Tensor | None,
    activation_basis: Tensor | None,
    memo: dict[int, Tensor] | None = None,
) -> Rotated:
    """Rotate each side of a batch into its basis, tokens first where that is cheaper.

    Args:
        activation: `(b, t, i)`, or int64 `(b, t)` of one-hot indices.
        gradient_bto: `(b, t, o)`.
        width: i.
        gradient_basis: `Q_S (o, o)`, or None.
        activation_basis: `Q_A (i, i)`, or None.
        memo: rotated activations by the id of their basis, shared by layers that read the same input.

    Returns:
        A `Rotated`.
    """
    tokens, outputs = gradient_bto.shape[1:]
    left, right = gradient_basis, activation_basis
    if left is not None and rotates_tokens(tokens, width):
        gradient_bto, left = product(gradient_bto, left), None
    if right is not None and activation.is_floating_point() and rotates_tokens(tokens, outputs):
        memo = {} if memo is None else memo
        if id(right) not in memo:
            memo[id(right)] = product(activation, right)
        activation, right = memo[id(right)], None
    return Rotated(activation, gradient_bto, width, left, right)


def rotates_tokens(tokens: int, other: int) -> bool:
    """Whether a side of length d is rotated token by token: `t d^2` multiplications, against `d^2 other` of G."""
    return tokens <= other


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


@dataclass(frozen=True)
class Curvature:
    """Approximate curvature of one layer, ready to be inverted.

    Attributes:
        gradient_basis: `Q_S (o, o)` with eigenvectors as columns, or None.
        activation_basis: `Q_A (i, i)`, or None.
        eigenvalues: `Lambda (o, i)` in that basis, or None for the identity matrix.
        damping: the absolute lambda that is added to every eigenvalue.
        gradient_eigenvalues: `L_S (o,)`, or None where it is not known.
        activation_eigenvalues: `L_A (i,)`, likewise.
    """

    gradient_basis: Tensor | None
    activation_basis: Tensor | None
    eigenvalues: Tensor | None
    damping: float
    gradient_eigenvalues: Tensor | None = None
    activation_eigenvalues: Tensor | None = None

    def precondition(self, value_boi: Tensor) -> Tensor:
        """`(G + lambda I)^-1 V` of each matrix in the batch (GB23 eq. 21)."""
        return self.restore(rotate(value_boi, self.gradient_basis, self.activation_basis))

    def rotated(
        self, activation: Tensor, gradient_bto: Tensor, width: int, memo: dict[int, Tensor] | None = None
    ) -> Rotated:
        """A batch with both sides on the way to this curvature's eigenbasis."""
        return rotated(activation, gradient_bto, width, self.gradient_basis, self.activation_basis, memo)

    def rotated_gradients(self, activation: Tensor, gradient_bto: Tensor, width: int) -> Tensor:
        """Gradient of each example in this curvature's eigenbasis, `(b, o, i)`."""
        ready = self.rotated(activation, gradient_bto, width)
        return torch.cat([grad_boi for _, grad_boi in ready.parts()])

    def divide(self, rotated_boi: Tensor) -> Tensor:
        """`(Lambda + lambda)^-1` times each matrix in the eigenbasis; in place."""
        return rotated_boi if self.eigenvalues is None else rotated_boi.div_(self.eigenvalues + self.damping)

    def restore(self, rotated_boi: Tensor) -> Tensor:
        """Divide by `Lambda + lambda` in the eigenbasis and rotate back: `(G + lambda I)^-1 V` from `Q_S^T V Q_A`."""
        back = None if self.activation_basis is None else self.activation_basis.T
        left = None if self.gradient_basis is None else self.gradient_basis.T
        return rotate(self.divide(rotated_boi.clone()), left, back)

    def weights(self) -> Tensor | None:
        """`1 / (Lambda + lambda) (o, i)`, or None for the identity."""
        return None if self.eigenvalues is None else 1 / (self.eigenvalues + self.damping)

    def norm(self, rotated_boi: Tensor) -> Tensor:
        """`V^T (G + lambda I)^-1 V` from `Q_S^T V Q_A` of each matrix, `(b,)`."""
        return self.divide(rotated_boi.square()).sum((1, 2))

    def is_singular(self) -> bool:
        """Whether the inverse does not exist: no damping, and an eigenvalue that is zero up to rounding."""
        if self.eigenvalues is None or self.damping > 0:
            return False
        rounding = torch.finfo(self.eigenvalues.dtype).eps * self.eigenvalues.max()
        return bool(self.eigenvalues.min() <= rounding)


def pair_influence(
    curvature: Curvature, query: tuple[Tensor, Tensor, int], train: tuple[Tensor, Tensor, int]
) -> Tensor:
    """Which query token meets which training token, for one pair.

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
