"""How heavy the tail of influence is, over fifty thousand short sequences (GB23 section 5.2.1).

A small web of natural text: pieces of a few words of Genesis in two languages, of the Universal Declaration of Human
Rights in fourteen, and of what Python says of itself; each piece once. Most sequences have nothing to do with a given
query, as in a real training set; a few may have much.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.findings import python_help
from benchmarks.findings.checkpoint import Recipe
from inflab.datasets import parallel
from inflab.datasets.vocabulary import train_bpe, wrap

__all__ = ["HELP", "KINDS", "LANGUAGES", "RECIPES", "UNREAD", "corpus", "part", "pieces", "queries", "tokenizer"]

#: Of the Declaration; Chinese and Japanese have no spaces at which to cut.
LANGUAGES = ("eng", "fra", "spa", "deu", "ita", "por", "nld", "rus", "tur", "pol", "swe", "kor", "arb", "hin")
#: Chapters of Genesis that are not trained on.
UNREAD = (49, 50)
#: Sentences of Python's help that are trained on; those behind them are not.
HELP = 4700
#: What a query may be: the beginning of a verse that was trained on, of an unread one, of an unread sentence of help.
KINDS = ("read", "unread", "help")
_LEAST, _SHORTEST, _LONGEST = 5, 4, 12  # tokens of a piece
_FEWEST, _MOST = 6, 16  # words, tokens of a query


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Byte-level BPE of all the text, 800 tokens."""
    texts = [*parallel.read_genesis().texts, *parallel.read_udhr(languages=LANGUAGES).texts, *python_help.read()]
    return wrap(train_bpe(texts, 800))


@lru_cache(maxsize=2)
def pieces(is_trained: bool) -> tuple[list[str], list[str], list[str]]:
    """Real text in pieces of a few words: no two alike, none in both parts.

    Args:
        is_trained: the pieces that are trained on; else those of the unread chapters in English and of unread help.

    Returns:
        Texts, ids such as "eng 1:1 a", and languages.
    """
    if is_trained:
        return _cut([parallel.read_genesis(chapters=_read()), parallel.read_udhr(languages=LANGUAGES), _help(True)])
    known = set(pieces(True)[0])
    rows = zip(*_cut([parallel.read_genesis(["eng"], UNREAD), _help(False)]), strict=True)
    texts, ids, languages = zip(*(row for row in rows if row[0] not in known), strict=True)
    return list(texts), list(ids), list(languages)


def _help(is_trained: bool) -> Any:
    """Sentences of Python's help, as `inflab.datasets.parallel` has its texts."""
    every = python_help.read()
    texts, first = (every[:HELP], 0) if is_trained else (every[HELP:], HELP)
    ids = [f"help {first + number}" for number in range(len(texts))]
    return SimpleNamespace(texts=texts, ids=ids, coords={"language": ["eng"] * len(texts)})


def _cut(sources: list[Any]) -> tuple[list[str], list[str], list[str]]:
    words = sorted({word for source in sources for text in source.texts for word in _words(text)})
    tokens = dict(zip(words, map(len, tokenizer()(words)["input_ids"]), strict=True))
    seen: dict[str, tuple[str, str]] = {}
    for source in sources:
        for text, name, language in zip(source.texts, source.ids, source.coords["language"], strict=True):
            part, length, number = "", 0, 0
            for word in _words(text):
                part, length = part + word, length + tokens[word]
                if length >= _LEAST:
                    if _SHORTEST <= length <= _LONGEST:
                        seen.setdefault(part.strip(), (f"{name} {number}", language))
                    part, length, number = "", 0, number + 1
    ids, languages = zip(*seen.values(), strict=True)
    return list(seen), list(ids), list(languages)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """All that is trained on, with `language` and `source` ("genesis", "declaration" or "help") beside each."""
    texts, ids, languages = pieces(True)
    source = ["help" if i.startswith("help") else "genesis" if ":" in i else "declaration" for i in ids]
    return inflab.encode(texts, tokenizer(), ids=ids, source=source, language=languages)


def queries(each: int, *, seed: int = 0) -> xr.Dataset:
    """Questions of all kinds, drawn by seed.

    Args:
        each: how many of each of `KINDS`.
        seed: of the draw.

    Returns:
        The queries, kind after kind, with the coordinate `kind`. Three words are the prompt and what follows is the
        completion, 16 tokens in all.
    """
    rng = np.random.default_rng([seed, 52])
    rows = []
    for kind in KINDS:
        source = (
            _help(False) if kind == "help" else parallel.read_genesis(["eng"], UNREAD if kind == "unread" else _read())
        )
        fit = [i for i, text in enumerate(source.texts) if len(_begin(text)) >= _FEWEST]
        for i in rng.permutation(fit)[:each]:
            words = _begin(source.texts[i])
            rows.append((kind, f"{kind} {source.ids[i]}", " ".join(words[:3]), " " + " ".join(words[3:])))
    kinds, ids, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(prompts, tokenizer(), completions=completions, dim="query", ids=ids, kind=kinds)


def _begin(text: str) -> list[str]:
    """The first words of a verse, at most 16 tokens: no text that is trained on is longer."""
    words = text.split(" ")
    while len(tokenizer()(" ".join(words))["input_ids"]) > _MOST:
        words.pop()
    return words


def _read() -> list[int]:
    return [chapter for chapter in range(1, 51) if chapter not in UNREAD]


def part(scores: xr.Dataset, n: int, *, seed: int = 0) -> xr.Dataset:
    """Scores over so many training sequences, drawn at random: what a smaller search would have seen.

    Args:
        scores: over (query, train).
        n: how many.
        seed: of the draw.

    Returns:
        The same scores over fewer sequences, in the order of the corpus.
    """
    drawn = np.random.default_rng([seed, n]).permutation(scores.sizes["train"])[:n]
    return scores.isel(train=np.sort(drawn))


_TRAINING = {"batch_size": 64, "weight_decay": 0.1, "warmup": 100}
RECIPES = {
    "tails": Recipe(
        "tails", corpus, tokenizer,
        {"n_positions": 48, "n_embd": 96, "n_layer": 3, "n_head": 4},
        {"epochs": 20, "learning_rate": 2e-3, **_TRAINING},
    ),
    "tails-early": Recipe(
        "tails-early", corpus, tokenizer,
        {"n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4},
        {"epochs": 2, "learning_rate": 5e-3, **_TRAINING},
    ),
}  # fmt: skip
