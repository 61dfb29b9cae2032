"""A weight that is used more than once has the sum over its uses as gradient, before any square or product.

By one module called twice, or by several that share a Parameter. What cannot be split by use and example is
refused by name: never a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import inflab
from inflab import Identity, Problem
from inflab.errors import LayerError
from inflab.layer import select_layers

from .builders import Readout, Tied, as_queries, double, normal, regression
from .references import assert_close, check_gradients, expected_gradients, scores

N = 5


class Sides(Tied):
    """The same weight on two parts of the input of different lengths, side by side."""

    def forward(self, value: Tensor) -> Tensor:
        again = self.second or self.first
        return torch.cat([self.first(value[:, :3]), 2 * again(value[:, 2:])], dim=1)


class HalfDetached(Tied):
    """One use passes no gradient back."""

    def forward(self, value: Tensor) -> Tensor:
        return self.first(value).detach() * self.first(torch.tanh(value))


class HalfWithoutGrad(Tied):
    """One use runs where no gradient is recorded."""

    def forward(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            fixed = self.first(value)
        return fixed * self.first(torch.tanh(value))


class HalfInPlace(Tied):
    """The output of one use is written over."""

    def forward(self, value: Tensor) -> Tensor:
        return self.first(torch.tanh(self.first(torch.tanh(self.first(value))))).relu_()


class SharedBias(Tied):
    """Two weights with one bias."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__(first)
        second.bias = first.bias
        self.second = second


class Doubled(nn.Linear):
    """A Linear in name, whose output is not that of its weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden argument
        return 2 * super().forward(input)


def linear(**settings: Any) -> nn.Linear:
    return nn.Linear(4, 4, **settings)


def bare() -> nn.Linear:
    return nn.Linear(4, 4, bias=False)


def convolution(**settings: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, bias=False, **settings)


def problem_of(body: nn.Module, *shape: int) -> Problem:
    """Token ids when the shape is one number, else real inputs."""
    value = np.random.default_rng(1).integers(0, 6, (N, *shape)) if len(shape) == 1 else normal(N, *shape)
    return regression(double(Readout(body, 4, channel_axis=1 if len(shape) == 3 else -1)), value)


ALIKE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear called twice": (lambda: Tied(linear()), (6, 4)),
    "Linear called twice, no bias": (lambda: Tied(bare()), (6, 4)),
    "Linear on two lengths": (lambda: Sides(linear()), (7, 4)),
    "Linear, one use detached": (lambda: HalfDetached(linear()), (6, 4)),
    "Conv1D called twice": (lambda: Tied(Conv1D(4, 4)), (6, 4)),
    "Conv2d called twice": (lambda: Tied(nn.Conv2d(4, 4, 3, padding=1, groups=2)), (4, 5, 6)),
    "Conv2d on two sizes": (lambda: Tied(convolution(stride=2, padding=1)), (4, 7, 8)),
    "Embedding on two lengths": (lambda: Sides(nn.Embedding(6, 4)), (7,)),
    "Embedding with padding_idx on two lengths": (lambda: Sides(nn.Embedding(6, 4, padding_idx=2)), (7,)),
    "two Linear share": (lambda: Tied(bare(), bare()), (6, 4)),
    "two Linear share, two lengths": (lambda: Sides(bare(), bare()), (7, 4)),
    "two Conv2d share": (lambda: Tied(convolution(padding=1), convolution(padding=1)), (4, 6, 6)),
    "two Embedding share": (lambda: Sides(nn.Embedding(6, 4), nn.Embedding(6, 4)), (7,)),
}


@pytest.mark.parametrize(("body", "shape"), ALIKE.values(), ids=ALIKE.keys())
def test_gradients_are_summed_over_uses(body: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    problem = problem_of(body(), *shape)
    assert [layer.name for layer in select_layers(problem.model, "*")] == ["body.first", "head"]
    check_gradients(problem)


ODD: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Embedding, other padding_idx": (lambda: Sides(nn.Embedding(6, 4), nn.Embedding(6, 4, padding_idx=2)), (7,)),
    "Embedding, first padding_idx": (lambda: Sides(nn.Embedding(6, 4, padding_idx=2), nn.Embedding(6, 4)), (7,)),
    "Conv2d, other dilation": (lambda: Tied(convolution(padding=1), convolution(padding=2, dilation=2)), (4, 6, 6)),
    "Conv2d, other stride": (lambda: Tied(convolution(padding=1), convolution(stride=2)), (4, 7, 7)),
    "Conv2d, other padding": (lambda: Tied(convolution(), convolution(padding=1)), (4, 6, 6)),
    "Conv2d, other padding mode": (
        lambda: Tied(convolution(padding=1), convolution(padding=1, padding_mode="circular")),
        (4, 6, 6),
    ),
    "Linear, one use without grad": (lambda: HalfWithoutGrad(linear()), (6, 4)),
    "Linear, one use changed in place": (lambda: HalfInPlace(linear()), (6, 4)),
    "Linear, shared bias alone": (lambda: SharedBias(linear(), linear()), (6, 4)),
    "Linear, one with bias": (lambda: Tied(linear(), bare()), (6, 4)),
    "Linear with a forward of its own": (lambda: Doubled(4, 4), (6, 4)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_uses_are_right_or_refused_by_name(name: str) -> None:
    body, shape = ODD[name]
    problem = problem_of(body(), *shape)
    try:
        layers = [layer.name for layer in select_layers(problem.model, "body*")]
    except LayerError:
        table = inflab.layers(problem.model)
        assert (table["why_not"][table.index.str.startswith("body")] != "").all()
        return
    check_gradients(problem, layers)


def test_a_model_that_is_one_layer_is_scored_or_refused() -> None:
    model = double(nn.Linear(4, 3))
    problem = regression(model, normal(N, 4))
    try:
        influence = Identity().fit(problem, progress=False)
    except LayerError:
        return
    flat_bp = torch.cat([expected_gradients(problem, [""])[""].flatten(1)], 1)
    assert_close(scores(influence, as_queries(problem.corpus)), flat_bp @ flat_bp.T)
