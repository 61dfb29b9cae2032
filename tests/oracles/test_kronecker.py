"""The algebra of one layer equals its definition, on tensors of any shape and of either precision.

Each function against a loop, a dense matrix or numpy; one-hot activations, kept as an index, against the same rows
written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from inflab import kronecker
from inflab.kronecker import Curvature
from inflab.products import mirror

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def assert_near(found: Tensor, expected: Tensor, scale: float | None = None) -> None:
    """Same shape and dtype; differences within rounding of the largest number that took part."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    size = float(expected.abs().max()) if expected.numel() else 0.0
    assert float((found - expected).abs().max()) <= TOLERANCE[found.dtype] * max(size, scale or 0.0, 1e-30)


@dataclass
class Case:
    """Tokens of a small layer, some of them padding, and a random curvature."""

    activation: Tensor  # (b, t, i), or (b, t) of indices
    rows_bti: Tensor  # the same, written out; zero at padding
    gradient_bto: Tensor
    is_text_bt: Tensor
    curvature: Curvature
    value_boi: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.gradient_bto.dtype

    @property
    def width(self) -> int:
        return self.rows_bti.shape[-1]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    b, t, o, i = (draw(st.integers(1, 5)) for _ in range(4))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    one_hot, standard_a, standard_s = (draw(st.booleans()) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    is_text_bt = torch.rand(b, t, generator=generator) < 0.8
    padding = ~is_text_bt.unsqueeze(-1)
    if one_hot:
        activation = torch.randint(i, (b, t), generator=generator).masked_fill(~is_text_bt, 0)
        rows_bti = torch.nn.functional.one_hot(activation, i).to(dtype).masked_fill(padding, 0)
    else:
        activation = rows_bti = normal(b, t, i).masked_fill(padding, 0)
    gradient_bto = normal(b, t, o).masked_fill(padding, 0)
    bases = (
        None if standard else torch.linalg.qr(normal(n, n))[0] for n, standard in ((o, standard_s), (i, standard_a))
    )
    eigenvalues = draw(st.sampled_from([None, normal(o, i).square()]))
    curvature = Curvature(*bases, eigenvalues, damping=draw(st.sampled_from([0.05, 1.0, 100.0])))
    return Case(activation, rows_bti, gradient_bto, is_text_bt, curvature, normal(b, o, i))


def dense(case: Case) -> Tensor:
    """`G + lambda I` as a matrix over the entries of `(o, i)`, row by row, in float64; the identity without G."""
    curvature = case.curvature
    o, i = case.value_boi.shape[1:]
    if curvature.eigenvalues is None:
        return torch.eye(o * i).double()
    bases = ((curvature.gradient_basis, o), (curvature.activation_basis, i))
    q = torch.kron(*(torch.eye(n).double() if basis is None else basis.double().contiguous() for basis, n in bases))
    return q * (curvature.eigenvalues.double().flatten() + curvature.damping) @ q.T


@given(cases())
def test_second_moment_is_a_sum_of_outer_products(case: Case) -> None:
    expected = sum(torch.outer(row, row) for row in case.rows_bti.double().reshape(-1, case.width))
    shape = (case.width, case.width) if case.activation.is_floating_point() else (case.width,)
    found = torch.zeros(shape, dtype=case.dtype)
    for _ in range(2):  # added to, not set
        kronecker.add_second_moment(found, case.activation, case.is_text_bt)
    found = (mirror(found) if found.ndim == 2 else found) / 2
    if case.activation.is_floating_point():
        assert_near(found, expected.to(case.dtype))
    else:
        assert torch.equal(torch.diag(found).double(), expected)


@given(cases(), st.integers(1, 6))
def test_eigenbasis_puts_the_blocks_together_again(case: Case, blocks: int) -> None:
    rows_ti = case.rows_bti.reshape(-1, case.width)
    moment = rows_ti.T @ rows_ti
    vectors, values = kronecker.eigenbasis(moment, blocks)
    member = torch.zeros(case.width, dtype=torch.long)
    for block, place in enumerate(np.array_split(np.arange(case.width), blocks)):
        member[place] = block
    same = member[:, None] == member[None]
    assert vectors is not None
    assert (values >= 0).all()
    assert_near(vectors * values @ vectors.T, moment * same, scale=float(moment.abs().max()))
    assert_near(vectors.T @ vectors, torch.eye(case.width, dtype=case.dtype))
    assert not vectors[~same].any()
    for block in member.unique():
        assert (values[member == block].diff() >= 0).all()


def test_eigenvalues_lost_in_rounding_are_zero_and_never_negative() -> None:
    """Of moments of rank one, whose other eigenvalues come out of the decomposition on either side of zero."""
    rows_ni = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 6)))
    moments = [torch.outer(row, row) for row in rows_ni]
    assert min(float(torch.linalg.eigvalsh(moment).min()) for moment in moments) < 0
    assert all((kronecker.eigenbasis(moment)[1] >= 0).all() for moment in moments)


def test_eigenbasis_of_a_diagonal_is_the_standard_basis() -> None:
    values = torch.tensor([3.0, 0.0, 1.0])
    vectors, found = kronecker.eigenbasis(values)
    assert vectors is None
    assert torch.equal(found, values)


@given(cases())
def test_example_gradients_are_sums_of_outer_products(case: Case) -> None:
    found = kronecker.example_gradients(case.activation, case.gradient_bto, case.width)
    expected = torch.zeros_like(case.value_boi)
    for example, (rows, gradients) in enumerate(zip(case.rows_bti, case.gradient_bto, strict=True)):
        for a, g in zip(rows, gradients, strict=True):
            expected[example] += torch.outer(g, a)
    assert_near(found, expected)


@given(cases())
def test_rotate_is_the_kronecker_product_of_the_bases(case: Case) -> None:
    bases = case.curvature.gradient_basis, case.curvature.activation_basis
    found = kronecker.rotate(case.value_boi, *bases)
    sizes = case.value_boi.shape[1:]
    pairs = zip(bases, sizes, strict=True)
    q = torch.kron(*(torch.eye(n).to(case.dtype) if basis is None else basis.contiguous() for basis, n in pairs))
    assert_near(found.flatten(1), case.value_boi.flatten(1) @ q)


@given(cases())
def test_rotated_gradients_are_the_gradients_rotated(case: Case) -> None:
    bases = case.curvature.gradient_basis, case.curvature.activation_basis
    found = case.curvature.rotated_gradients(case.activation, case.gradient_bto, case.width)
    formed = kronecker.example_gradients(case.activation, case.gradient_bto, case.width)
    assert_near(found, kronecker.rotate(formed, *bases), scale=float(formed.abs().max()))


@pytest.mark.parametrize(
    ("tokens", "sides"), [(3, set()), (5, {"left"}), (40, {"left", "right"})], ids=["few", "between", "many"]
)
def test_each_side_is_rotated_before_the_gradient_is_formed_where_that_is_cheaper(tokens: int, sides: set[str]) -> None:
    rng = np.random.default_rng(0)
    a, g, q_s, q_a = (
        torch.from_numpy(rng.standard_normal(shape)) for shape in ((2, tokens, 4), (2, tokens, 6), (6, 6), (4, 4))
    )
    ready = kronecker.rotated(a, g, 4, q_s, q_a)
    assert {name for name in ("left", "right") if getattr(ready, name) is not None} == sides
    expected = q_s.T @ (g.transpose(1, 2) @ a) @ q_a
    assert_near(torch.cat([grad for _, grad in ready.parts()]), expected)


@given(cases())
def test_squares_and_norms_are_those_of_the_rotated_gradients(case: Case) -> None:
    """One token an example takes a shortcut that forms no gradient; it is drawn here too."""
    ready = case.curvature.rotated(case.activation, case.gradient_bto, case.width)
    grad_boi = case.curvature.rotated_gradients(case.activation, case.gradient_bto, case.width)
    total = torch.zeros_like(grad_boi[0])
    for _ in range(2):
        ready.add_squares(total)
    scale = float(grad_boi.square().max())
    assert_near(total / 2, grad_boi.square().sum(0), scale=scale)
    weight = case.curvature.weights()
    expected = grad_boi.square() if weight is None else grad_boi.square() * weight
    assert_near(ready.norms(weight), expected.sum((1, 2)), scale=float(expected.sum((1, 2)).max()))


def test_one_token_forms_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kronecker, "example_gradients", lambda *_: pytest.fail("a gradient was formed"))
    a, g, q_s, q_a = (torch.randn(shape, dtype=torch.float64) for shape in ((7, 1, 4), (7, 1, 3), (3, 3), (4, 4)))
    ready = kronecker.rotated(a, g, 4, q_s, q_a)
    total = torch.zeros(3, 4, dtype=torch.float64)
    ready.add_squares(total)
    rotated_boi = (g @ q_s).transpose(1, 2) @ (a @ q_a)
    assert_near(total, rotated_boi.square().sum(0))
    assert_near(ready.norms(None), rotated_boi.square().sum((1, 2)))


def test_layers_that_read_one_input_rotate_it_once() -> None:
    a, q_a = torch.randn(2, 3, 9), torch.linalg.qr(torch.randn(9, 9))[0]
    memo: dict[int, torch.Tensor] = {}
    first, second = (kronecker.rotated(a, torch.randn(2, 3, 9), 9, None, q_a, memo) for _ in range(2))
    assert first.activation is second.activation


@given(cases())
def test_precondition_is_a_dense_solve(case: Case) -> None:
    found = case.curvature.precondition(case.value_boi)
    expected = torch.linalg.solve(dense(case), case.value_boi.double().flatten(1).T).T
    assert_near(found.flatten(1), expected.to(case.dtype))


@given(cases())
def test_norm_is_the_quadratic_form(case: Case) -> None:
    rotated_boi = kronecker.rotate(case.value_boi, case.curvature.gradient_basis, case.curvature.activation_basis)
    found = case.curvature.norm(rotated_boi)
    flat_bp = case.value_boi.double().flatten(1)
    expected = (flat_bp * torch.linalg.solve(dense(case), flat_bp.T).T).sum(1)
    assert (found >= 0).all()
    assert_near(found, expected.to(case.dtype))


@given(cases())
def test_token_influence_sums_to_the_example(case: Case) -> None:
    found = kronecker.token_influence(case.value_boi, case.activation, case.gradient_bto)
    expected = torch.zeros_like(found)
    for b, t in np.ndindex(*found.shape):
        expected[b, t] = case.gradient_bto[b, t] @ case.value_boi[b] @ case.rows_bti[b, t]
    scale = float(case.gradient_bto.norm() * case.value_boi.norm() * case.rows_bti.norm())
    assert_near(found, expected, scale)
    whole_b = (kronecker.example_gradients(case.activation, case.gradient_bto, case.width) * case.value_boi).sum((1, 2))
    assert_near(found.sum(1), whole_b, scale)


@given(cases(), st.data())
def test_pair_influence_is_the_form_between_tokens(case: Case, data: st.DataObject) -> None:
    """Two examples of one batch as query and training sequence; the query may be cut shorter."""
    query, train = (data.draw(st.integers(0, len(case.gradient_bto) - 1)) for _ in range(2))
    length = data.draw(st.integers(1, case.gradient_bto.shape[1]))
    found = kronecker.pair_influence(
        case.curvature,
        (case.activation[query, :length], case.gradient_bto[query, :length], case.width),
        (case.activation[train], case.gradient_bto[train], case.width),
    )
    assume(case.is_text_bt[query, :length].all() and case.is_text_bt[train].all())

    def token_matrices(example: int, t: int) -> Tensor:
        rows, gradients = case.rows_bti[example, :t].double(), case.gradient_bto[example, :t].double()
        return torch.einsum("to,ti->toi", gradients, rows).flatten(1)

    left, right = token_matrices(query, length), token_matrices(train, case.gradient_bto.shape[1])
    expected = left @ torch.linalg.solve(dense(case), right.T)
    scale = float(left.norm() * right.norm() / (1 if case.curvature.eigenvalues is None else case.curvature.damping))
    assert_near(found, expected.to(case.dtype), scale)


@given(cases())
def test_singular_means_no_damping_and_a_zero_eigenvalue(case: Case) -> None:
    curvature = case.curvature
    assert not curvature.is_singular(), "every case is damped"
    if curvature.eigenvalues is not None:
        sound = curvature.eigenvalues + 1
        zero = sound.clone()
        zero.view(-1)[-1] = 0
        assert not Curvature(None, None, sound, 0.0).is_singular()
        assert Curvature(None, None, zero, 0.0).is_singular()
        assert not Curvature(None, None, zero, 1e-6).is_singular()
