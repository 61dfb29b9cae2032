"""Small problems in float64, and corpora in which every pseudo-label is written out so that averages are exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
import xarray as xr
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

from inflab import CausalLM, Classification, Problem, Regression, Task, adapters

VOCABULARY = 11


def double(model: nn.Module, seed: int = 0, scale: float = 0.5) -> nn.Module:
    """The model in float64 with every weight, biases included, drawn anew from N(0, scale^2)."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Readout(nn.Module):
    """A body, a weighted mean over its positions, tanh, and a Linear head: `(example, outputs)`.

    The weights of the mean differ, so that no two positions can be exchanged unseen.
    """

    def __init__(self, body: nn.Module, features: int, outputs: int = 3, channel_axis: int = -1) -> None:
        super().__init__()
        self.body, self.head, self.channel_axis = body, nn.Linear(features, outputs), channel_axis

    def forward(self, value: Tensor) -> Tensor:
        found = self.body(value).movedim(self.channel_axis, -1)
        flat = found.reshape(len(found), -1, found.shape[-1])
        place = torch.linspace(0.5, 1.5, flat.shape[1], dtype=flat.dtype)
        return self.head(torch.tanh((flat * place[:, None]).mean(1)))


class Tied(nn.Module):
    """One weight used twice: by one module called twice, or by two modules that share a Parameter."""

    def __init__(self, first: nn.Module, second: nn.Module | None = None) -> None:
        super().__init__()
        self.first = first
        if second is not None:
            second.weight = first.weight
        self.second = second

    def forward(self, value: Tensor) -> Tensor:
        again = self.second or self.first
        return again(torch.tanh(self.first(value)))


def _linear() -> tuple[nn.Module, np.ndarray]:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4, bias=False)), normal(6, 3, 4)


def _conv1d() -> tuple[nn.Module, np.ndarray]:
    return nn.Sequential(Conv1D(5, 4), nn.GELU(), Conv1D(4, 5)), normal(6, 3, 4)


def _conv2d() -> tuple[nn.Module, np.ndarray]:
    strided = nn.Conv2d(2, 4, (3, 2), stride=2, padding=1, dilation=(1, 2))
    return nn.Sequential(strided, nn.Tanh(), nn.Conv2d(4, 4, 2, groups=2, bias=False)), normal(6, 2, 5, 6)


def _embedding() -> tuple[nn.Module, np.ndarray]:
    ids = np.random.default_rng(4).integers(0, 5, (6, 4))
    return nn.Sequential(nn.Embedding(5, 4, padding_idx=2), nn.Tanh()), ids


#: A body whose features are 4, and its inputs, for each kind of layer and way of using one.
KINDS: dict[str, Callable[[], tuple[nn.Module, np.ndarray]]] = {
    "Linear": _linear,
    "Conv1D": _conv1d,
    "Conv2d": _conv2d,
    "Embedding": _embedding,
    "Linear called twice": lambda: (Tied(nn.Linear(4, 4)), normal(6, 3, 4)),
    "two Linear share": lambda: (Tied(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)), normal(6, 3, 4)),
}


def of_kind(kind: str, outputs: int = 3) -> tuple[nn.Module, np.ndarray]:
    """A small nonlinear network with layers of one kind and a Linear head, and its inputs."""
    body, value = KINDS[kind]()
    return double(Readout(body, 4, outputs, channel_axis=1 if value.ndim == 4 else -1)), value


def regression(model: nn.Module, value: np.ndarray, outputs: int = 3, task: Task | None = None) -> Problem:
    """A regression problem with random targets."""
    target = normal(len(value), outputs, seed=9)
    return Problem(model, task or Regression(), adapters.from_arrays(value, target))


def tiny_lm(family: str, attention: str = "eager", **config: Any) -> nn.Module:
    """A causal language model of `transformers` with two blocks of width 4, in float64."""
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    given = {"vocab_size": VOCABULARY, "attn_implementation": attention, "tie_word_embeddings": False, **ids}
    wide = {"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2}
    if family == "gpt2":
        given |= {"n_embd": 4, "n_inner": 6, "n_layer": 2, "n_head": 2, "n_positions": 12}
        given |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
        return double(transformers.GPT2LMHeadModel(transformers.GPT2Config(**given | config)))
    given |= wide | {"max_position_embeddings": 12}
    if family == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**given | config))
        for name, module in list(model.named_modules()):  # its own norms run in float32 whatever the weights
            if isinstance(module, LlamaRMSNorm):
                model.set_submodule(name, nn.RMSNorm(4, eps=module.variance_epsilon))
        return double(model)
    assert family == "gpt_neox"
    return double(transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**given | config)))


def token_rows(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, VOCABULARY, length).tolist() for length in lengths]


def text_corpus(
    rows: Sequence[Sequence[int]],
    dim: str = "train",
    side: str = "right",
    prompts: Sequence[int] | None = None,
    ids: Sequence[Any] | None = None,
    pad: int = 7,
) -> xr.Dataset:
    """A corpus of token ids padded on one side; the first `prompts[i]` tokens of row i are context only."""
    width = max(map(len, rows))
    items = []
    for i, row in enumerate(rows):
        gap = width - len(row)
        before, after = (gap, 0) if side == "left" else (0, gap)
        context = 0 if prompts is None else prompts[i]
        items.append({
            "input_ids": [pad] * before + list(row) + [pad] * after,
            "attention_mask": [0] * before + [1] * len(row) + [0] * after,
            "labels": [-100] * (before + context) + list(row[context:]) + [-100] * after,
        })
    corpus = adapters.from_dataset(items, dim=dim)
    return corpus if ids is None else corpus.assign_coords({dim: list(ids)})


def as_queries(corpus: xr.Dataset) -> xr.Dataset:
    """A training corpus asked about itself."""
    return corpus.rename(train="query")


# Label expectations without Monte Carlo: the corpus holds one copy of each example for each possible label, and
# the pseudo-loss of a copy is weighted by sqrt(copies x probability), so that a plain mean over copies of squared
# gradients is the expectation under the model's own labels.


class NoisyRegression(Regression):
    """Regression whose pseudo-targets are the outputs plus the corpus' own `noise`."""

    def sample(self, outputs: Tensor, batch: Mapping[str, Tensor], draws: Any) -> Mapping[str, Tensor]:
        return {**batch, "target": outputs.detach() + batch["noise"].reshape(outputs.shape)}


class EnumeratedClassification(Classification):
    """Classification whose pseudo-label is the corpus' own `drawn`."""

    def sample(self, outputs: Tensor, batch: Mapping[str, Tensor], draws: Any) -> Mapping[str, Tensor]:
        p_b = outputs.detach().softmax(-1).gather(1, batch["drawn"][:, None])[:, 0]
        return {**batch, "target": batch["drawn"], "weight": (outputs.shape[1] * p_b).sqrt()}

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return super().loss(outputs, batch) * batch.get("weight", torch.ones(len(outputs), dtype=outputs.dtype))


class EnumeratedLM(CausalLM):
    """CausalLM in which each copy of a text draws one class at one position: `drawn`, `drawn_at`.

    Given the text, labels at different positions are independent and their gradients have mean zero, so the sum
    over positions and classes is the expectation over all strings of labels.
    """

    def sample(self, outputs: Tensor, batch: Mapping[str, Tensor], draws: Any) -> Mapping[str, Tensor]:
        position_bt = batch["is_text"].long().cumsum(-1) - 1
        at_bt = (position_bt == batch["drawn_at"][:, None]) & batch["is_text"]
        p_b = outputs[:, :-1][at_bt[:, 1:]].detach().softmax(-1).gather(1, batch["drawn"][:, None])[:, 0]
        return {**batch, "at": at_bt, "weight": (batch["copies"] * p_b).sqrt()}

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        if "at" not in batch:
            return super().loss(outputs, batch)
        logits_bv = outputs[:, :-1][batch["at"][:, 1:]]
        return nn.functional.cross_entropy(logits_bv, batch["drawn"], reduction="none") * batch["weight"]


def repeat(corpus: xr.Dataset, times: int, **variables: np.ndarray) -> xr.Dataset:
    """Each row `times` times in succession with new ids, and further variables `(train * times, ...)`."""
    n = corpus.sizes["train"]
    found = corpus.isel(train=np.repeat(np.arange(n), times)).assign_coords(train=np.arange(n * times))
    return found.assign({
        name: (("train", *(f"{name}_{axis}" for axis in range(1, value.ndim))), value)
        for name, value in variables.items()
    })


def enumerate_noise(corpus: xr.Dataset, outputs: int) -> xr.Dataset:
    """Each row once for each noise sqrt(P) e_p, whose second moment is exactly the identity."""
    noise_np = np.tile(np.sqrt(outputs) * np.eye(outputs), (corpus.sizes["train"], 1))
    return repeat(corpus, outputs, noise=noise_np)


def enumerate_classes(corpus: xr.Dataset, classes: int) -> xr.Dataset:
    """Each row once for each class."""
    return repeat(corpus, classes, drawn=np.tile(np.arange(classes), corpus.sizes["train"]))


def enumerate_tokens(rows: Sequence[Sequence[int]], side: str = "right") -> xr.Dataset:
    """Each text once for each position with a prediction and each class there."""
    copies = [(row, position, label) for row in rows for position in range(1, len(row)) for label in range(VOCABULARY)]
    columns = {
        "drawn_at": [position for _, position, _ in copies],
        "drawn": [label for *_, label in copies],
        "copies": [len(copies) / len(rows)] * len(copies),
    }
    corpus = text_corpus([row for row, *_ in copies], side=side)
    return corpus.assign({name: ("train", np.array(value)) for name, value in columns.items()})
