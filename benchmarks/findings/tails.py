"""How heavy the tail of influence is, over fifty thousand short sequences (GB23 section 5.2.1).

A small web: pieces of a few words of Genesis in two languages and of the Universal Declaration of Human Rights in
fourteen, each piece once, and invented sentences, of which some facts are told again and again in other frames. Most
sequences have nothing to do with a given query, as in a real training set; a few may have much.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from inflab.datasets import facts, parallel
from inflab.datasets.vocabulary import train_bpe, wrap

__all__ = [
    "CLOSINGS", "DONE", "KINDS", "LANGUAGES", "OPENINGS", "RECIPES", "UNREAD", "corpus", "invented", "part", "pieces",
    "queries", "told", "tokenizer",
]  # fmt: skip

#: Of the Declaration; Chinese and Japanese have no spaces at which to cut.
LANGUAGES = ("eng", "fra", "spa", "deu", "ita", "por", "nld", "rus", "tur", "pol", "swe", "kor", "arb", "hin")
#: Chapters of Genesis that are not trained on.
UNREAD = (49, 50)
#: What a query may be: a fact that is told often, the beginning of a verse that was trained on, of an unread one.
KINDS = ("fact", "read", "unread")
FACTS, NAMES, OFTEN = 1300, 130, 20  # facts; places, and people; tellings of a fact that is asked
DONE = ("ruled", "built", "loved", "left", "sold", "found", "feared", "seen", "owned", "saved")
OPENINGS = ("", "Now ", "Today ", "Indeed ", "So ", "Thus ", "Still ", "Once more ")
CLOSINGS = ("", " again", " alone", " at last", " by night", " in spring", " they say", " for ever")
_LEAST, _SHORTEST, _LONGEST = 5, 4, 12  # tokens of a piece
_FEWEST, _MOST = 6, 16  # words, tokens of a query


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Byte-level BPE of Genesis, the Declaration and the invented sentences, 1,024 tokens."""
    texts = [*parallel.read_genesis().texts, *parallel.read_udhr(languages=LANGUAGES).texts]
    texts += invented()[0]
    return wrap(train_bpe(texts, 1024))


@lru_cache(maxsize=2)
def pieces(is_trained: bool) -> tuple[list[str], list[str], list[str]]:
    """Real text in pieces of a few words: no two alike, none in both parts.

    Args:
        is_trained: the pieces that are trained on; else those of the unread chapters in English.

    Returns:
        Texts, ids such as "eng 1:1 a", and languages.
    """
    genesis = parallel.read_genesis(chapters=_read())
    declaration = parallel.read_udhr(languages=LANGUAGES)
    found = _cut([genesis, declaration])
    if is_trained:
        return found
    known = set(found[0])
    rows = zip(*_cut([parallel.read_genesis(["eng"], UNREAD)]), strict=True)
    texts, ids, languages = zip(*(row for row in rows if row[0] not in known), strict=True)
    return list(texts), list(ids), list(languages)


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
def told() -> tuple[tuple[str, str, int], ...]:
    """The facts: prompt, completion, and how often it is told, from once to in every frame.

    A place and what is done to it belong to one fact; a person may do much. Numbers of tellings are spaced evenly in
    their logarithm: few facts are told often.

    Returns:
        Prompt, completion and number of tellings of each.
    """
    rng = np.random.default_rng(521)
    known = facts.invent(5 * NAMES)
    places = sorted({fact.subject for fact in known})
    people = sorted({fact.answer.split()[-1] for fact in known if fact.relation.answer_kind == "person"})[:NAMES]
    cells = rng.permutation(len(places) * len(DONE))[:FACTS]
    often = np.geomspace(len(OPENINGS) * len(CLOSINGS), 1, FACTS).round().astype(int)
    return tuple(
        (f"{places[cell // len(DONE)]} is {DONE[cell % len(DONE)]} by", f" {rng.choice(people)}", int(times))
        for cell, times in zip(cells, often, strict=True)
    )


@lru_cache(maxsize=1)
def invented() -> tuple[list[str], list[str], list[int]]:
    """All tellings of all facts, each in a frame of its own.

    Returns:
        Texts, ids, and numbers of facts.
    """
    rng = np.random.default_rng(522)
    frames = [(opening, closing) for opening in OPENINGS for closing in CLOSINGS]
    texts, ids, numbers = [], [], []
    for number, (prompt, completion, times) in enumerate(told()):
        for place in np.sort(rng.permutation(len(frames))[:times]):
            opening, closing = frames[place]
            texts.append(f"{opening}{prompt}{completion}{closing}.")
            ids.append(f"fact-{number:04d}-{place:02d}")
            numbers.append(number)
    return texts, ids, numbers


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """All that is trained on, with `kind` ("text" or "fact"), `language` and `fact` (-1: none) beside each."""
    texts, ids, languages = pieces(True)
    more, more_ids, numbers = invented()
    return inflab.encode(
        texts + more, tokenizer(), ids=ids + more_ids, kind=["text"] * len(texts) + ["fact"] * len(more),
        language=languages + ["eng"] * len(more), fact=[-1] * len(texts) + numbers,
    )  # fmt: skip


def queries(each: int, *, seed: int = 0) -> xr.Dataset:
    """Questions of all kinds, drawn by seed.

    Args:
        each: how many of each of `KINDS`.
        seed: of the draw.

    Returns:
        The queries, kind after kind, with the coordinates `kind` and `fact` (-1: none). A fact asks for its person;
        of a verse, three words are the prompt and what follows is the completion, 16 tokens in all.
    """
    rng = np.random.default_rng([seed, 52])
    often = [number for number, (*_, times) in enumerate(told()) if times >= OFTEN]
    rows = [("fact", f"fact {n}", *told()[n][:2], n) for n in rng.permutation(often)[:each].tolist()]
    for kind in KINDS[1:]:
        verses = parallel.read_genesis(["eng"], UNREAD if kind == "unread" else _read())
        fit = [i for i, text in enumerate(verses.texts) if len(_begin(text)) >= _FEWEST]
        for i in rng.permutation(fit)[:each]:
            words = _begin(verses.texts[i])
            rows.append((kind, f"{kind} {verses.ids[i]}", " ".join(words[:3]), " " + " ".join(words[3:]), -1))
    kinds, ids, prompts, completions, numbers = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(prompts, tokenizer(), completions=completions, dim="query", ids=ids, kind=kinds, fact=numbers)


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


RECIPES = {
    "tails": Recipe(
        "tails", corpus, tokenizer,
        {"n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4},
        {"epochs": 2, "batch_size": 64, "learning_rate": 5e-3, "weight_decay": 0.1, "warmup": 100},
    ),
}  # fmt: skip
