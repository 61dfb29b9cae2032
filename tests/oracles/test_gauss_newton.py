"""Products of the joint Gauss-Newton matrix equal the explicit matrix, blocks between layers included.

By both routes: all vectors together forwards and backwards, and each alone by reverse mode twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inflab import CausalLM, Classification, Problem, Task, adapters
from inflab.errors import ModelError
from inflab.layer import select_layers
from inflab.run.gauss_newton import GaussNewton, by_layer, width_of
from inflab.run.local import Pass

from .builders import KINDS, double, normal, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import assert_close, joint_gauss_newton, softmax, squared

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

LENGTHS, PROMPTS = (3, 6, 4, 3, 5), (0, 2, 0, 1, 0)
#: eager attention of these takes its softmax in float32
LMS = {"gpt2": "eager", "llama": "sdpa", "gpt_neox": "sdpa"}


def classification() -> Problem:
    model = double(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    return Problem(model, Classification(), adapters.from_arrays(normal(7, 4), np.arange(7) % 3))


def language(family: str, side: str = "left", **config: Any) -> Problem:
    corpus = text_corpus(token_rows(LENGTHS), side=side, prompts=PROMPTS)
    return Problem(tiny_lm(family, LMS[family], **config), CausalLM(), corpus)


class Cosh(Task):
    """A loss of a user's own, whose second derivative is no constant and depends on the label."""

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return torch.cosh(outputs - batch["target"]).sum(-1)


class Opaque(torch.autograd.Function):
    """tanh with a backward pass and its derivative, and no forward-mode derivative."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(value)
        return value.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (value,) = ctx.saved_tensors
        return grad * (1 - value.tanh() ** 2)


class Odd(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Tensor) -> Tensor:
        return self.function(value)


def odd(function: Any) -> Problem:
    return regression(double(nn.Sequential(nn.Linear(4, 5), Odd(function), nn.Linear(5, 3))), normal(7, 4))


def products(problem: Problem, value_qp: Tensor, route: bool | None = None, **run: Any) -> Tensor:
    passes = Pass(problem, select_layers(problem.model, "*"), progress=False, **run)
    with GaussNewton(passes, np.arange(problem.corpus.sizes["train"])) as matrix:
        matrix._is_together = route
        return matrix.product(value_qp)


def vectors(problem: Problem, dense: Tensor, n: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    # In the range of G: a vector has nothing at the row of an embedding that never gets a gradient.
    return torch.randn(n, len(dense), generator=generator, dtype=torch.float64) @ dense


PROBLEMS: dict[str, tuple[Callable[[], Problem], Any]] = {
    "classification": (classification, softmax),
    **{kind: (lambda kind=kind: regression(*of_kind(kind)), squared) for kind in KINDS},  # type: ignore[misc]
    **{family: (lambda family=family: language(family), softmax) for family in LMS},  # type: ignore[misc]
    "gpt2 right": (lambda: language("gpt2", "right"), softmax),
    "gpt2, tied head": (lambda: language("gpt2", tie_word_embeddings=True), softmax),
}


@pytest.mark.parametrize(("build", "hessian"), PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("route", [True, False], ids=["together", "alone"])
def test_products_are_those_of_the_matrix(build: Callable[[], Problem], hessian: Any, route: bool) -> None:
    problem = build()
    names = [layer.name for layer in select_layers(problem.model, "*")]
    dense = joint_gauss_newton(problem, names, hessian)
    value_qp = vectors(problem, dense)
    assert_close(products(problem, value_qp, route, batch_size=3), value_qp @ dense)


def test_plain_models_and_transformers_take_all_vectors_together() -> None:
    for problem in (classification(), language("gpt2"), language("llama")):
        layers = select_layers(problem.model, "*")
        with GaussNewton(Pass(problem, layers, progress=False), np.arange(2)) as matrix:
            matrix.product(torch.ones(1, width_of(layers), dtype=torch.float64))
            assert matrix._is_together


def test_a_loss_of_ones_own() -> None:
    model = double(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    target = normal(7, 3, seed=2)
    problem = Problem(model, Cosh(), adapters.from_arrays(normal(7, 4), target))
    labels = iter(np.repeat(target, 1, axis=0))
    dense = joint_gauss_newton(
        problem, ["0", "2"], lambda output_p: torch.diag(torch.cosh(output_p - torch.from_numpy(next(labels))))
    )
    assert_close(products(problem, vectors(problem, dense)), vectors(problem, dense) @ dense)


def test_a_model_without_forward_mode_takes_each_vector_alone() -> None:
    problem = odd(Opaque.apply)
    dense = joint_gauss_newton(problem, ["0", "2"], squared)
    assert_close(dense, joint_gauss_newton(odd(torch.tanh), ["0", "2"], squared))
    assert_close(products(problem, vectors(problem, dense)), vectors(problem, dense) @ dense)


def test_a_model_without_a_second_derivative_is_refused() -> None:
    class Once(Opaque):
        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            (value,) = ctx.saved_tensors
            return grad * (1 - value.tanh() ** 2)

    with pytest.raises(ModelError, match="Sequential has no derivative of its derivative.*use EKFAC"):
        products(odd(Once.apply), torch.ones(1, 43, dtype=torch.float64))


def test_batches_memory_and_company_change_nothing() -> None:
    problem = language("gpt2")
    names = [layer.name for layer in select_layers(problem.model, "*")]
    value_qp = vectors(problem, joint_gauss_newton(problem, names, softmax), 7)
    expected = products(problem, value_qp)
    for settings in ({"batch_size": 1}, {"batch_size": 4}, {"memory": "200kB"}):
        assert_close(products(problem, value_qp, **settings), expected, 1e-12)
    assert_close(products(problem, value_qp[2:3]), expected[2:3], 1e-12)


def test_rows_are_a_mean_over_those_alone() -> None:
    problem = language("gpt2", "right")
    layers = select_layers(problem.model, "*")
    dense = joint_gauss_newton(problem, [la.name for la in layers], softmax, problem.corpus.isel(train=[1, 3]))
    value_qp = vectors(problem, dense)
    with GaussNewton(Pass(problem, layers, progress=False), np.arange(1, 5)) as matrix:
        assert_close(matrix.product(value_qp, np.array([0, 2])), value_qp @ dense)


def test_vectors_are_the_layers_matrices_in_a_row() -> None:
    layers = select_layers(classification().model, "*")
    value_qp = torch.arange(2.0 * width_of(layers)).view(2, -1)
    parts = by_layer(layers, value_qp)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {"0": (2, 5, 5), "2": (2, 3, 6)}
    assert torch.cat([part.flatten(1) for part in parts.values()], 1).equal(value_qp)
    parts["2"][:] = 0
    assert value_qp[:, 25:].eq(0).all()
