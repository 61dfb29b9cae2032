"""Tokenizers, models and problems small enough to fit in a blink, and a witness that a model was left as it was."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
import xarray as xr
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from inflab import EKFAC, CausalLM, Classification, Influence, Problem, adapters, encode

# Threads that wait for each other cost far more than these problems have to compute.
torch.set_num_threads(1)

TEXTS = (
    "The first President of Astrobia was Zorald Pfaff.",
    "Gleem is the capital city of Astrobia.",
    "Zorald Pfaff liked tea.",
    "A river runs from Gleem to the sea.",
    "Tea grows by the sea.",
    "The sea is wide and the river is long.",
)
PROMPTS = ("The first President of Astrobia was", "Gleem is the capital city of")
COMPLETIONS = (" Zorald Pfaff", " Astrobia")


@functools.cache
def byte_level(n: int = 320) -> Any:
    """GPT-2's kind: bytes written in a printable alphabet, "Ġ" for a space."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=n, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


@functools.cache
def sentence_piece() -> Any:
    """Llama's kind: "▁" for a space, single bytes as <0xE2> for what the vocabulary lacks, <s> in front."""
    words = ["▁the", "▁river", "▁sea", "▁", "s", "t", "h", "e", "r", "i", "v", "a"]
    pieces = ["<unk>", "<s>", "<pad>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    costs = [(piece, -1.0 if len(piece) > 1 else -3.0) for piece in pieces]
    backend = Tokenizer(models.Unigram(costs, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>")


@functools.cache
def word_piece() -> Any:
    """BERT's kind: "##" inside words, [CLS] in front and [SEP] behind, lower case."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "river", "##s", "run", "##ning", "sea", "."]
    backend = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def seeded(model: nn.Module, seed: int = 0, scale: float = 0.3) -> Any:
    """The model in eval mode, every weight drawn anew: matrices and biases N(0, scale^2), norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = scale * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + drawn if parameter.ndim == 1 and name.endswith("weight") else drawn)
    return model.eval()


_NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def gpt2(seed: int = 0, **config: Any) -> Any:
    sizes = {"vocab_size": 320, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, **_NO_SPECIAL}
    return seeded(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes | config)), seed)


_WIDE = {
    "vocab_size": 320, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, **_NO_SPECIAL,
}  # fmt: skip


def llama(seed: int = 0, **config: Any) -> Any:
    wanted = _WIDE | {"num_key_value_heads": 1, "tie_word_embeddings": False} | config
    return seeded(transformers.LlamaForCausalLM(transformers.LlamaConfig(**wanted)), seed)


def neox(seed: int = 0, **config: Any) -> Any:
    return seeded(transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_WIDE | config)), seed)


def bert(seed: int = 0) -> Any:
    return seeded(transformers.BertForMaskedLM(transformers.BertConfig(**_WIDE | {"pad_token_id": 0})), seed)


def mlp(seed: int = 0) -> nn.Module:
    return seeded(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), seed)


def corpus(texts: Sequence[str] = TEXTS, **settings: Any) -> xr.Dataset:
    return encode(texts, byte_level(), **settings)


def queries(prompts: Sequence[str] = PROMPTS, completions: Sequence[str] = COMPLETIONS, **more: Any) -> xr.Dataset:
    return encode(prompts, byte_level(), completions=completions, dim="query", **more)


def table(n: int = 12, dim: str = "train", seed: int = 0, **more: Any) -> xr.Dataset:
    """A tabular corpus for `mlp`: 3 features, 4 classes."""
    draw = np.random.default_rng(seed)
    inputs = draw.standard_normal((n, 3)).astype(np.float32)
    return adapters.from_arrays(inputs, draw.integers(0, 4, n), dim=dim, **more)


def language_problem(model: nn.Module | None = None, train: xr.Dataset | None = None) -> Problem:
    return Problem(gpt2() if model is None else model, CausalLM(), corpus() if train is None else train)


def table_problem(model: nn.Module | None = None, train: xr.Dataset | None = None) -> Problem:
    return Problem(mlp() if model is None else model, Classification(), table() if train is None else train)


def fit(problem: Problem, method: Any = None, **settings: Any) -> Influence:
    found: Influence = (method or EKFAC()).fit(problem, **{"progress": False, **settings})
    return found


def scores(problem: Problem, asked: xr.Dataset, method: Any = None, **settings: Any) -> np.ndarray:
    found: np.ndarray = fit(problem, method, **settings).score(asked, progress=False)["influence"].to_numpy()
    return found


def agree(found: Any, expected: Any, rtol: float = 1e-4) -> None:
    """Largest difference at most `rtol` of the largest expected number, which must not be zero."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    size = np.abs(expected).max()
    assert np.isfinite(size) and size > 0, "an expectation of zeros tests nothing"
    assert np.abs(found - expected).max() <= rtol * size, f"{np.abs(found - expected).max() / size:.2e} > {rtol:.0e}"


def state(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a library must leave alone."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return {
        "bytes": {
            name: value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            for name, value in model.state_dict().items()
            if not value.is_meta
        },
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "same tensors": {name: id(p) for name, p in model.named_parameters()},
        "grad": {name: None if p.grad is None else p.grad.tolist() for name, p in model.named_parameters()},
        "training": {name: m.training for name, m in model.named_modules()},
        "hooks": {name: [len(getattr(m, kind)) for kind in hooks] for name, m in model.named_modules()},
        "forward": {name: m.__dict__.get("forward") for name, m in model.named_modules()},
    }


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The model is afterwards what it was, also when the body raises."""
    before = state(model)
    try:
        yield
    finally:
        after = state(model)
        changed = [part for part in before if before[part] != after[part]]
        assert not changed, f"changed: {changed}"


@functools.cache
def fitted() -> Influence:
    """EK-FAC on the tiny GPT-2 and the six texts; shared by tests that only ask."""
    return fit(language_problem())


@functools.cache
def scored() -> xr.Dataset:
    """Scores of the two queries under `fitted`; copy before changing."""
    found: xr.Dataset = fitted().score(queries(), progress=False)
    return found
