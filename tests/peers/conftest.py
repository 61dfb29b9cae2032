"""The models that inflab and its peers are compared on: tiny, seeded, float64, with a spectrum that is not degenerate.

A peer gets its own copy of the model and its own loss, written here in plain torch on plain tensors, so that
nothing of inflab's corpora, tasks or layouts is shared between the two sides.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

import inflab
from inflab.adapters import from_arrays, from_dataset

N_TRAIN, N_QUERY = 45, 4
VOCABULARY, LONGEST = 29, 11
MODELS = ("mlp-classification", "mlp-regression", "cnn", "llama", "gpt2")

Objective = Callable[[Any, nn.Module], Tensor]


@dataclass(frozen=True)
class Case:
    """One model with its data, as inflab sees them and as a peer sees them.

    Attributes:
        name: one of `MODELS`.
        problem: what inflab is given; its measurement is the log-probability.
        other: the same with another measurement (margin; the output for regression), whose sign is not the loss's.
        queries: corpus over `query`.
        layers: names of the covered modules, the same on both sides.
        batch_size: the same on both sides; it does not divide the number of examples.
        peer_model: a copy of the model for the peer.
        peer_train: what the peer is given: tensors whose first axis is the example.
        peer_queries: the same of the queries.
        peer_loss: summed loss of a batch.
        peer_other: summed `other` measurement of a batch.
        peer_mask: the attention mask of a batch, or None.
    """

    name: str
    problem: inflab.Problem
    other: inflab.Problem
    queries: xr.Dataset
    layers: list[str]
    batch_size: int
    peer_model: nn.Module
    peer_train: TensorDataset
    peer_queries: TensorDataset
    peer_loss: Objective
    peer_other: Objective
    peer_mask: Callable[[Any], Tensor | None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are too small to share: on a busy machine threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def build_case() -> Callable[[str], Case]:
    """Each case by name, made once. Not a parametrised session fixture: in random order that is made anew for
    every test."""
    return functools.cache(_build)


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, build_case: Callable[[str], Case]) -> Case:
    return build_case(request.param)


def _build(name: str) -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(MODELS.index(name))
        return {
            "mlp-classification": _mlp_classification,
            "mlp-regression": _mlp_regression,
            "cnn": _cnn,
            "llama": _llama,
            "gpt2": _gpt2,
        }[name](name)


def _mlp_classification(name: str) -> Case:
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))
    inputs = torch.randn(N_TRAIN + N_QUERY, 6, dtype=torch.float64)
    return _supervised(name, model, inputs, torch.randint(4, (len(inputs),)))


def _mlp_regression(name: str) -> Case:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.GELU(), nn.Linear(6, 2))
    inputs = torch.randn(N_TRAIN + N_QUERY, 5, dtype=torch.float64)
    return _supervised(name, model, inputs, torch.randn(len(inputs), 2, dtype=torch.float64))


def _cnn(name: str) -> Case:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 5, (3, 2), padding=(2, 1), dilation=(2, 1), bias=False),
        nn.Tanh(),
        nn.AvgPool2d((2, 4)),
        nn.Flatten(),
        nn.Linear(20, 3),
    )
    inputs = torch.randn(N_TRAIN + N_QUERY, 2, 8, 7, dtype=torch.float64)
    return _supervised(name, model, inputs, torch.randint(3, (len(inputs),)))


def _llama(name: str) -> Case:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    kinds = "self_attn.q_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj".split()
    return _language(name, model, [f"model.layers.{block}.{kind}" for block in range(2) for kind in kinds])


def _gpt2(name: str) -> Case:
    """A padded GPT-2. Kronfluence does not know `Conv1D`, so its copy holds `nn.Linear` with the transposed weight:
    inflab's reading of Conv1D is compared with the peer's reading of the same matrix as Linear."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=12,
        n_layer=2,
        n_head=2,
        n_positions=16,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    kinds = "attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj".split()
    return _language(name, model, [f"transformer.h.{block}.{kind}" for block in range(2) for kind in kinds])


def _supervised(name: str, model: nn.Module, inputs: Tensor, target: Tensor) -> Case:
    model = model.double().eval()
    is_class = not target.is_floating_point()

    def loss(batch: Any, model: nn.Module) -> Tensor:
        x, y = batch
        if is_class:
            return F.cross_entropy(model(x), y, reduction="sum")
        return 0.5 * (model(x) - y).square().sum()

    def other(batch: Any, model: nn.Module) -> Tensor:
        x, y = batch
        return _margin(model(x), y) if is_class else model(x).sum()

    task, other_task = (
        (inflab.Classification(), inflab.Classification(measurement="margin"))
        if is_class
        else (inflab.Regression(), inflab.Regression(measurement="output"))
    )
    corpus = from_arrays(inputs[:N_TRAIN], target[:N_TRAIN])
    return Case(
        name=name,
        problem=inflab.Problem(model, task, corpus),
        other=inflab.Problem(model, other_task, corpus),
        queries=from_arrays(inputs[N_TRAIN:], target[N_TRAIN:], dim="query"),
        layers=[key for key, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))],
        batch_size=16,
        peer_model=copy.deepcopy(model),
        peer_train=TensorDataset(inputs[:N_TRAIN], target[:N_TRAIN]),
        peer_queries=TensorDataset(inputs[N_TRAIN:], target[N_TRAIN:]),
        peer_loss=loss,
        peer_other=other,
        peer_mask=lambda batch: None,
    )


def _language(name: str, model: nn.Module, layers: list[str]) -> Case:
    """Right-padded texts of 4 to 11 tokens; queries are prompts of 2 tokens and their completions."""
    model = model.double().eval()
    rows = [torch.randint(VOCABULARY, (int(n),)) for n in torch.randint(4, LONGEST + 1, (N_TRAIN + N_QUERY,))]
    rows[0] = torch.randint(VOCABULARY, (LONGEST,))
    items = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row.clone()} for row in rows]
    for item in items[N_TRAIN:]:
        item["labels"][:2] = -100
    corpus = from_dataset(items[:N_TRAIN])
    return Case(
        name=name,
        problem=inflab.Problem(model, inflab.CausalLM(), corpus),
        other=inflab.Problem(model, inflab.CausalLM(measurement="margin"), corpus),
        queries=from_dataset(items[N_TRAIN:], dim="query"),
        layers=layers,
        batch_size=16,
        peer_model=_with_linear(model),
        peer_train=_padded(items[:N_TRAIN]),
        peer_queries=_padded(items[N_TRAIN:]),
        peer_loss=lambda batch, model: F.cross_entropy(*_predictions(batch, model), reduction="sum"),
        peer_other=lambda batch, model: _margin(*_predictions(batch, model)),
        peer_mask=lambda batch: batch[1],
    )


def _predictions(batch: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Logits and labels of every token that counts."""
    token_id, mask, label = batch
    logits = model(input_ids=token_id, attention_mask=mask, use_cache=False).logits[:, :-1]
    counts = label[:, 1:] != -100
    return logits[counts], label[:, 1:][counts]


def _margin(logits: Tensor, label: Tensor) -> Tensor:
    """Sum over rows of log(p / (1 - p))."""
    p = logits.softmax(-1).gather(-1, label.unsqueeze(-1))
    return (p.log() - (1 - p).log()).sum()


def _padded(items: list[dict[str, Tensor]]) -> TensorDataset:
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    columns = (
        torch.stack([F.pad(item[name], (0, LONGEST - len(item[name])), value=value) for item in items])
        for name, value in fill.items()
    )
    return TensorDataset(*columns)


def _with_linear(model: nn.Module) -> nn.Module:
    """A copy with `nn.Linear` in the place of every `Conv1D`."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs, dtype=torch.float64)
            linear.load_state_dict({"weight": module.weight.T, "bias": module.bias})
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, linear)
    return model.eval()


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """Compare with a peer: relative 1e-6 in every entry, above a floor of rounding for entries that cancel."""

    def check(ours: Any, peer: Any, *, floor: float = 1e-12) -> None:
        ours, peer = np.asarray(ours), np.asarray(peer)
        assert ours.dtype == peer.dtype == np.float64
        assert ours.shape == peer.shape
        assert np.abs(peer).max() > 0
        np.testing.assert_allclose(ours, peer, rtol=1e-6, atol=floor * np.abs(peer).max())

    return check
