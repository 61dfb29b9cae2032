"""The data sets and models on which methods are held against ground truth: what is trained, on what, and what is asked.

Each case is a recipe, a training corpus and held-out queries, all made from a seed. The sizes follow GB23 section 5.1
where the paper has the case (two hidden layers of 128 tanh units for regression, of 256 ReLU units for images).
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

import inflab
from inflab import adapters, datasets
from inflab.errors import MissingDependencyError
from inflab.truth import Recipe

__all__ = ["CASES", "TITLES", "Case", "case"]

_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Case:
    """One data set with its model.

    Attributes:
        name: "concrete", ...
        kind: "regression", "classification" or "text".
        recipe: how the model is trained.
        corpus: what it is trained on.
        queries: held out.
        layers: which layers the methods cover.
    """

    name: str
    kind: str
    recipe: Recipe
    corpus: xr.Dataset
    queries: xr.Dataset
    layers: Any = "*"


def mlp(seed: int, widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Module:
    """A multi-layer perceptron drawn by seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(inputs, outputs), activation()]
        return nn.Sequential(*parts[:-1]).eval()


def gpt(seed: int, vocabulary: int, hidden: int, layers: int, positions: int) -> nn.Module:
    """A small GPT-NeoX drawn by seed."""
    from transformers import GPTNeoXConfig

    from inflab.models.training import blank

    config = GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * hidden, max_position_embeddings=positions, hidden_dropout=0.0, attention_dropout=0.0,
        bos_token_id=0, eos_token_id=0, use_parallel_residual=False, attn_implementation="eager",
    )  # fmt: skip
    return blank(config, seed)


def _cut(corpus: xr.Dataset, n_query: int, n_train: int | None) -> tuple[xr.Dataset, xr.Dataset]:
    """Training rows and held-out queries, drawn without overlap; always the same ones."""
    order = np.random.default_rng(0).permutation(corpus.sizes["train"])
    stop = None if n_train is None else n_query + n_train
    train, queries = np.sort(order[n_query:stop]), np.sort(order[:n_query])
    return corpus.isel(train=train), corpus.isel(train=queries).rename(train="query")


def _concrete() -> Case:
    corpus, queries = _cut(datasets.load("concrete", standardize=True), 100, None)
    recipe = Recipe(
        model=partial(mlp, widths=(8, 128, 128, 1), activation=nn.Tanh), task=inflab.Regression(), epochs=40,
        batch_size=32, learning_rate=0.05,
    )  # fmt: skip
    return Case("concrete", "regression", recipe, corpus, queries)


def _diabetes() -> Case:
    corpus, queries = _cut(datasets.load("diabetes", standardize=True), 50, None)
    recipe = Recipe(
        model=partial(mlp, widths=(10, 128, 128, 1), activation=nn.Tanh), task=inflab.Regression(), epochs=40,
        batch_size=32, learning_rate=0.1,
    )  # fmt: skip
    return Case("diabetes", "regression", recipe, corpus, queries)


def _digits() -> Case:
    corpus = datasets.load("digits")
    corpus, queries = _cut(corpus.assign(input=corpus["input"] / 16), 100, 1000)
    recipe = Recipe(
        model=partial(mlp, widths=(64, 256, 256, 10), activation=nn.ReLU),
        task=inflab.Classification("margin"), epochs=20, batch_size=32, learning_rate=0.03, momentum=0.9,
        schedule="cosine",
    )  # fmt: skip
    return Case("digits", "classification", recipe, corpus, queries)


def _early() -> Case:
    """The digits long before the training loss is near zero, where there is little left to explain."""
    digits = case("digits")
    return replace(digits, name="digits-early", recipe=replace(digits.recipe, epochs=5))


def _fashion() -> Case:
    folder = Path(os.environ.get("INFLAB_FASHION_MNIST", _FASHION))
    files = [folder / f"train-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
    if not all(path.exists() for path in files):
        raise MissingDependencyError(
            f"Fashion-MNIST is not at {folder}; install Debian's dataset-fashion-mnist, or set INFLAB_FASHION_MNIST"
        )
    images, labels = (gzip.decompress(path.read_bytes()) for path in files)
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28 * 28)
    classes = np.frombuffer(labels, np.uint8, offset=8)
    chosen = np.sort(np.random.default_rng(0).permutation(len(classes))[:600])
    whole = adapters.from_arrays(pixels[chosen] / 255.0, classes[chosen].astype(np.int64))
    corpus, queries = _cut(whole, 100, 500)
    recipe = Recipe(
        model=partial(mlp, widths=(784, 256, 256, 10), activation=nn.ReLU),
        task=inflab.Classification("margin"), epochs=20, batch_size=32, learning_rate=0.03, momentum=0.9,
        schedule="cosine",
    )  # fmt: skip
    return Case("fashion", "classification", recipe, corpus, queries)


def _characters() -> Case:
    verses = _verses()
    pieces = [text[start : start + 32] for text in verses for start in range(0, len(text) - 31, 32)]
    corpus, queries = _cut(inflab.encode(pieces, _character_tokenizer(verses)), 50, 250)
    vocabulary = int(corpus["vocabulary"].max()) + 1
    recipe = Recipe(
        model=partial(gpt, vocabulary=vocabulary, hidden=32, layers=2, positions=32), task=inflab.CausalLM(),
        epochs=30, batch_size=16, learning_rate=3e-3, optimizer="adamw", schedule="cosine", warmup=30,
    )  # fmt: skip
    return Case("characters", "text", recipe, corpus, queries, "*.mlp.*")


def _genesis() -> Case:
    verses = [text for text in _verses() if len(text) <= 100]
    tokenizer = datasets.tokenizer("genesis", vocabulary=512)
    corpus, queries = _cut(inflab.encode(verses, tokenizer), 40, 400)
    recipe = Recipe(
        model=partial(gpt, vocabulary=512, hidden=48, layers=2, positions=64), task=inflab.CausalLM(),
        epochs=10, batch_size=16, learning_rate=3e-3, optimizer="adamw", schedule="cosine", warmup=20,
    )  # fmt: skip
    return Case("genesis", "text", recipe, corpus, queries)


def _verses() -> list[str]:
    return [str(text) for text in datasets.load("genesis", languages=["eng"])["text"].to_numpy()]


def _character_tokenizer(texts: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<|endoftext|>", *sorted(set("".join(texts)))]
    tokenizer = Tokenizer(models.WordLevel({letter: number for number, letter in enumerate(letters)}, letters[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=letters[0])


#: Name -> makes the case.
CASES: dict[str, Callable[[], Case]] = {
    "concrete": _concrete,
    "diabetes": _diabetes,
    "digits": _digits,
    "digits-early": _early,
    "fashion": _fashion,
    "characters": _characters,
    "genesis": _genesis,
}


#: Name -> for people.
TITLES = {
    "concrete": "Concrete (regression)",
    "diabetes": "Diabetes (regression)",
    "digits": "Digits (classification)",
    "digits-early": "Digits, 5 epochs (classification)",
    "fashion": "Fashion-MNIST (classification)",
    "characters": "Genesis, by character (GPT)",
    "genesis": "Genesis, by verse (GPT)",
}


@cache
def case(name: str) -> Case:
    """A case by its name."""
    return CASES[name]()
