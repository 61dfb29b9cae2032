"""Per-example gradients from one batched pass equal `torch.autograd.grad` of each example's own loss.

Everything else rests on this: the sum over tokens of `Ds a_bar^T`, from what inflab's hooks saw, against the
derivative of one example's loss in the weights themselves, for every kind of layer and every way of using one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inflab import CausalLM, Classification, Identity, Problem, adapters
from inflab.layer import select_layers
from inflab.tasks import Draws

from .builders import (
    Readout,
    as_queries,
    double,
    normal,
    regression,
    text_corpus,
    tiny_lm,
    token_rows,
)
from .references import (
    alone,
    assert_close,
    check_gradients,
    expected_gradients,
    found_gradients,
    gradient_matrices,
)

N = 5


# --- Linear and Conv1D --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=["vector", "tokens", "two token axes"])
def test_linear(bias: bool, shape: tuple[int, ...]) -> None:
    check_gradients(regression(double(Readout(nn.Linear(4, 6, bias=bias), 6)), normal(N, *shape)))


@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=["vector", "tokens"])
def test_linear_followed_by_changes_in_place(shape: tuple[int, ...]) -> None:
    """The gradient is that of the layer's own output, before the change; on tokens that output is a view."""
    body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 5), nn.SiLU(inplace=True))
    check_gradients(regression(double(Readout(body, 5)), normal(N, *shape)))


@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=["vector", "tokens"])
def test_conv1d_of_transformers(shape: tuple[int, ...]) -> None:
    body = nn.Sequential(Conv1D(6, 4), nn.GELU(), Conv1D(5, 6))
    check_gradients(regression(double(Readout(body, 5)), normal(N, *shape)))


# --- Conv2d -------------------------------------------------------------------------------------------------------

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "stride": {"stride": (2, 1)},
    "padding": {"padding": (2, 1)},
    "dilation": {"dilation": (1, 2)},
    "stride padding dilation": {"stride": 2, "padding": (1, 3), "dilation": (2, 1)},
    "valid": {"padding": "valid"},
    "same": {"padding": "same"},
    "same even kernel": {"padding": "same", "kernel_size": (2, 4)},
    "same dilation": {"padding": "same", "kernel_size": (2, 3), "dilation": (3, 1)},
    "groups": {"groups": 2, "padding": 1},
    "groups no bias": {"groups": 2, "bias": False},
    "depthwise": {"groups": 4, "out_channels": 4},
    "depthwise multiplier": {"groups": 4, "out_channels": 8, "stride": 2, "padding": "valid"},
    "pointwise": {"kernel_size": 1},
    "reflect": {"padding": (2, 1), "padding_mode": "reflect"},
    "replicate": {"padding": (2, 1), "padding_mode": "replicate", "stride": 2},
    "circular": {"padding": (1, 2), "padding_mode": "circular", "groups": 2},
    "circular same even kernel": {"padding": "same", "padding_mode": "circular", "kernel_size": (4, 2)},
    "reflect same dilation": {"padding": "same", "padding_mode": "reflect", "dilation": (1, 2)},
}


def convolution(settings: dict[str, Any]) -> nn.Conv2d:
    return nn.Conv2d(4, **{"out_channels": 6, "kernel_size": (3, 2), **settings})


# Even kernels and dilations with padding="same" make PyTorch copy the input, and it says so.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv2d(settings: dict[str, Any]) -> None:
    layer = convolution(settings)
    check_gradients(regression(double(Readout(layer, layer.out_channels, channel_axis=1)), normal(N, 4, 6, 7)))


def test_conv2d_twice_in_a_row_and_on_two_sizes() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)

        def forward(self, value: Tensor) -> Tensor:
            return self.conv(torch.tanh(self.conv(value))[..., :4])

    check_gradients(regression(double(Readout(Twice(), 4, channel_axis=1)), normal(N, 4, 5, 6)))


# --- Embedding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"padding_idx": 2}, {"padding_idx": 0}, {"sparse": True}], ids=str)
def test_embedding(settings: dict[str, Any]) -> None:
    ids = np.random.default_rng(0).integers(0, 6, (N, 7))
    assert {0, 2} <= set(ids.ravel().tolist())
    check_gradients(regression(double(Readout(nn.Embedding(6, 4, **settings), 4)), ids))


def test_embedding_of_one_id_an_example() -> None:
    check_gradients(regression(double(Readout(nn.Embedding(6, 4), 4)), np.array([0, 5, 5, 1, 3])))


# --- language models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_language_model(family: str, attention: str, side: str) -> None:
    """Every layer, embeddings and head included, against each text alone; the padded columns hold a real token."""
    rows = token_rows((2, 6, 4, 3, 6), seed=3)
    check_gradients(
        Problem(tiny_lm(family, attention), CausalLM(), text_corpus(rows, side=side, prompts=(0, 3, 1, 0, 0)))
    )


def test_language_model_with_tied_embeddings() -> None:
    """Embedding and head use one matrix in two ways: they are left out, the rest is right."""
    model = tiny_lm("gpt2", tie_word_embeddings=True)
    problem = Problem(model, CausalLM(), text_corpus(token_rows((2, 6, 4)), side="left"))
    check_gradients(problem)
    names = {layer.name for layer in select_layers(model, "*")}
    assert "transformer.wpe" in names
    assert not names & {"transformer.wte", "lm_head"}


@pytest.mark.parametrize("measurement", ["log_probability", "margin"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_measurements_of_a_query(measurement: str, side: str) -> None:
    """f is differentiated in place of the loss; prompts are context."""
    queries = text_corpus(token_rows((3, 6, 4), seed=5), "query", side, prompts=(1, 4, 2))
    problem = Problem(tiny_lm("gpt2"), CausalLM(measurement), text_corpus(token_rows((4,))))
    found = found_gradients(problem, "*", "measurement", queries)
    expected = expected_gradients(problem, list(found), "measurement", queries)
    for name, grad_boi in expected.items():
        assert_close(found[name], grad_boi)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pseudo_labels_of_a_language_model(side: str) -> None:
    """The pseudo-loss is the loss of the text with its targets replaced by the sampled labels."""
    problem = Problem(tiny_lm("gpt2"), CausalLM(), text_corpus(token_rows((2, 6, 4), seed=3), side=side))
    found = found_gradients(problem, "*", "pseudo_loss", seed=11)
    for i, one in enumerate(alone(problem.corpus)):
        outputs = problem.task.forward(problem.model, one)
        label_t = problem.task.sample(outputs, one, Draws(11, [i]))["label"][0]
        value = sum(-outputs[0, t].log_softmax(-1)[label_t[t + 1]] for t in range(len(label_t) - 1))
        for name, grad_oi in gradient_matrices(problem.model, list(found), value).items():
            assert_close(found[name][i], grad_oi)


def test_classification_of_images() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    corpus = adapters.from_arrays(normal(N, 1, 6, 6), np.array([0, 2, 1, 1, 0]))
    check_gradients(Problem(double(model), Classification(), corpus))


def test_the_dot_product_of_gradients_is_the_influence_without_curvature() -> None:
    """Through the public door: `Identity` scores are `grad f . grad L` with the sign turned."""
    problem = Problem(tiny_lm("llama"), CausalLM(), text_corpus(token_rows((3, 6, 4))))
    found = Identity(layers="*").fit(problem, progress=False).score(as_queries(problem.corpus), by="layer")
    for name, grad_boi in expected_gradients(problem, list(found["layer"].to_numpy())).items():
        flat_bp = grad_boi.flatten(1)
        assert_close(found["influence"].sel(layer=name), flat_bp @ flat_bp.T)
