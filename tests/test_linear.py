"""Linear products: the same numbers in every layout and in a pass, in oneDNN or not; left alone where they must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from inflab import products
from inflab.linear import quick_linear
from tests import tiny

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the weights that oneDNN multiplied by, on any processor."""
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: True)
    monkeypatch.setattr(products, "_LARGE", 1)
    seen: list[tuple[int, ...]] = []
    multiply = products.linear

    def noted(a: Tensor, weight_nk: Tensor, bias_n: Tensor | None = None) -> Tensor:
        if products.uses_onednn(weight_nk, a, bias_n):
            seen.append(tuple(weight_nk.shape))
        return multiply(a, weight_nk, bias_n)

    for module in ("inflab.products", "inflab.linear"):
        monkeypatch.setattr(f"{module}.linear", noted)
    yield seen


def layouts(rows: int, columns: int) -> list[Tensor]:
    """The same matrix packed, with gaps between its rows, by columns, and in every second column of another."""
    value = torch.randn(rows, columns)
    other = torch.zeros(rows, 2 * columns)
    other[:, ::2] = value
    aligned = products.aligned(value, rows, columns).copy_(value)
    return [value, aligned, value.T.contiguous().T, other[:, ::2], products.as_right_side(value)]


@pytest.mark.parametrize("size", [(5, 17, 9), (1, 1, 1), (33, 16, 32), (8, 257, 65)], ids=str)
def test_every_layout_gives_the_same_product(size: tuple[int, int, int], onednn: list[Any]) -> None:
    m, k, n = size
    for a in layouts(m, k):
        for b in layouts(k, n):
            expected = (a.double() @ b.double()).float()
            tiny.agree(products.product(a, b), expected, 1e-5)
            bias = torch.randn(n)
            tiny.agree(products.linear(a, b.T, bias), expected + bias, 1e-5)
    assert onednn


def test_small_matrices_are_left_to_torch(onednn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_LARGE", 65)
    assert products.product(torch.randn(3, 8), torch.randn(8, 8)).shape == (3, 8)
    assert onednn == []
    products.product(torch.randn(3, 8), torch.randn(8, 9))
    assert onednn == [(9, 8)]


def test_batches_of_rows_keep_their_shape_and_are_no_views(onednn: list[Any]) -> None:
    a, b = torch.randn(2, 3, 5), torch.randn(5, 4)
    padded = products.aligned(a, 2, 3, 5).copy_(a)
    for value in (a, padded, a.transpose(0, 1).contiguous().transpose(0, 1)):
        found = products.product(value, b)
        assert found.shape == (2, 3, 4)
        assert found.is_contiguous() and not found._is_view()
        torch.testing.assert_close(found, a @ b)
    assert products.product(a[:0], b).shape == (0, 3, 4)


@pytest.mark.parametrize("is_faster", [True, False])
def test_long_sums_run_in_onednn_on_either_processor(is_faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: is_faster)
    monkeypatch.setattr(products, "_has_onednn", lambda: True)
    monkeypatch.setattr(products, "_LARGE", 1)
    monkeypatch.setattr(products, "_LONG", 64)
    calls = []

    def noted(a: Tensor, weight_nk: Tensor, *rest: Any) -> Tensor:
        calls.append(tuple(weight_nk.shape))
        return a @ weight_nk.T

    monkeypatch.setattr(products.torch.ops.mkldnn, "_linear_pointwise", noted)
    a, weight = torch.randn(3, 64), torch.randn(2, 64)
    for found in (products.linear(a, weight), products.product(a, weight.T.contiguous())):
        torch.testing.assert_close(found, a @ weight.T)
    assert calls == [(2, 64), (2, 64)], "long sums, wherever they stand"
    products.linear(a[:, :63], weight[:, :63])
    products.product(torch.randn(3, 2), torch.randn(2, 64))
    products.linear(a.double(), weight.double())
    assert len(calls) == (4 if is_faster else 2), "short ones only where it is the faster"


def test_without_onednn_rows_keep_their_shape_and_are_no_views_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: False)
    monkeypatch.setattr(products, "_LARGE", 1)
    a, weight, bias = torch.randn(2, 3, 5), torch.randn(4, 5), torch.randn(4)
    for value in (a, a.transpose(0, 1), a[:, :2]):
        found = products.linear(value, weight, bias)
        assert found.is_contiguous() and not found._is_view()
        torch.testing.assert_close(found, F.linear(value, weight, bias))
        assert not products.linear(value, weight)._is_view()
    assert products.linear(a[0, 0], weight).shape == (4,)
    with quick_linear(nn.Linear(5, 4).requires_grad_(False)):
        assert not F.linear(a, weight, bias)._is_view()


def test_other_dtypes_and_what_needs_a_gradient_are_left_to_torch(onednn: list[Any]) -> None:
    a, b = torch.randn(3, 5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    assert products.product(a, b).dtype == torch.float64
    weight = torch.randn(4, 3, requires_grad=True)
    products.linear(torch.randn(2, 3), weight).sum().backward()
    assert weight.grad is not None
    assert onednn == []


def run(model: nn.Module, quick: bool) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient at the embeddings."""
    held: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1]

    handle = model.get_input_embeddings().register_forward_hook(keep)  # type: ignore[operator]
    token = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (2, 7)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        if quick:
            with quick_linear(model):
                logits = model(input_ids=token).logits
        else:
            logits = model(input_ids=token).logits
    finally:
        handle.remove()
    logits.logsumexp(-1).sum().backward()
    gradient = held[0].grad
    assert gradient is not None
    return logits.detach(), gradient


@pytest.mark.parametrize("model", [tiny.gpt2, tiny.llama, tiny.neox], ids=["gpt2", "llama", "neox"])
def test_a_model_gives_the_same_logits_and_gradients(model: Any, onednn: list[Any]) -> None:
    own = model()
    expected = run(own, quick=False)
    assert onednn == []
    found = run(own, quick=True)
    assert len(onednn) > 8, "its linear layers ran there, forward and backward"
    for mine, theirs in zip(found, expected, strict=True):
        tiny.agree(mine, theirs, 1e-5)


@pytest.mark.parametrize("model", [tiny.gpt2, tiny.llama, tiny.neox], ids=["gpt2", "llama", "neox"])
def test_without_onednn_they_are_those_of_torch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: False)
    monkeypatch.setattr(products, "_LARGE", 1)
    own = model()
    for mine, theirs in zip(run(own, quick=True), run(own, quick=False), strict=True):
        tiny.agree(mine, theirs, 1e-6)


def test_weights_that_learn_autocast_and_transforms_run_as_they_would(onednn: list[Any]) -> None:
    value, layer, learning = torch.randn(3, 4), nn.Linear(4, 2).requires_grad_(False), nn.Linear(4, 2)
    with quick_linear(layer):
        learning(value).sum().backward()
        assert learning.weight.grad is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(value).dtype == torch.bfloat16
        jacobian = torch.func.jacrev(lambda x: F.linear(x, layer.weight))(value[0])
        assert onednn == []
        layer(value)
    torch.testing.assert_close(jacobian, layer.weight.detach())
    assert onednn == [(2, 4)]


class Turned(nn.Module):
    """Multiplies tokens by a layer, along the axis of tokens, as models that mix them do."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, value: Tensor) -> Tensor:
        mixed: Tensor = self.mix(value.transpose(1, 2)).transpose(1, 2)
        return mixed


def test_a_checkpointed_layer_of_a_transposed_input_runs_again_in_torch(onednn: list[Any]) -> None:
    layer, value = Turned().requires_grad_(False), torch.randn(2, 3, 5, requires_grad=True)
    with quick_linear(layer):
        checkpoint(layer, value, use_reentrant=False).square().sum().backward()
    found = value.grad
    (expected,) = torch.autograd.grad(layer(value).square().sum(), value)
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")  # torch's own forward mode
def test_gradients_inside_a_model_may_be_differentiated_and_pushed_forward(onednn: list[Any]) -> None:
    layer, value = nn.Linear(4, 2).requires_grad_(False), torch.randn(3, 4, requires_grad=True)

    def force() -> Tensor:
        energy = layer(value).pow(3).sum()
        (slope,) = torch.autograd.grad(energy, value, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), value)[0]

    expected = force()
    with quick_linear(layer):
        torch.testing.assert_close(force(), expected)
        assert onednn
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(value.detach(), torch.ones(3, 4))
            slope = forward_ad.unpack_dual(layer(dual)).tangent
    torch.testing.assert_close(slope, torch.ones(3, 4) @ layer.weight.T)


def test_what_a_model_had_compiled_is_left_to_its_compiler(onednn: list[Any]) -> None:
    layer = nn.Linear(4, 2).requires_grad_(False)
    run = torch.compile(lambda x: layer(x) + 1, backend="eager", fullgraph=True)
    value = torch.randn(3, 4)
    with quick_linear(layer):
        torch.testing.assert_close(run(value), layer(value) + 1)


@pytest.mark.parametrize("is_faster", [True, False])
def test_a_layer_behind_may_change_the_output_in_place(
    is_faster: bool, onednn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: is_faster)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)).requires_grad_(False)
    value = torch.randn(3, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(model(value).square().sum(), value)
    with quick_linear(model):
        (found,) = torch.autograd.grad(model(value).square().sum(), value)
    torch.testing.assert_close(found, expected)
    assert bool(onednn) == is_faster
