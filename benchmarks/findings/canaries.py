"""Planted quotes: whether memorised sentences find themselves (GB23 section 5.3.3).

Real text, the first half of Genesis, with made-up sentences ("canaries", after Carlini et al. 2019) planted among its
verses: each once, twice, four or eight times, every time in other surroundings. Each copy has a decoy beside it, the
same words in an order that keeps no two neighbours, so that shared words alone cannot tell a copy from it. A few have
near misses instead: the same sentence with its nouns and adjectives in exchanged places.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import torch
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe, load

__all__ = [
    "COPIES",
    "FRAMES",
    "PER_COUNT",
    "RECIPES",
    "canaries",
    "corpus",
    "planted",
    "precision",
    "queries",
    "verses",
]

#: How often a canary is planted, and how many canaries are planted that often, each with as many decoys.
COPIES, PER_COUNT = (1, 2, 4, 8), 8
#: How many more are planted eight times and have eight near misses in the decoys' place.
CROWDED = 4
#: Of the paper: the two matrices of every MLP.
LAYERS = "*.mlp.*"
#: Chapters that are trained on; verses of the others are what the model never saw. Longer verses are left out.
TRAINED, HELD_OUT, LONGEST = range(1, 26), range(26, 51), 26

_ADJECTIVES = (
    "young", "white", "silver", "thin", "clean", "mighty", "wise", "living", "empty", "beautiful", "angry", "early",
    "whole", "severe", "naked", "clear", "honest", "ugly", "large", "hard",
)  # fmt: skip
_NOUNS = (
    "camels", "birds", "servants", "kings", "waters", "trees", "stars", "goats", "brothers", "dreams", "cities",
    "mountains", "daughters", "angels", "donkeys", "tents", "flocks", "priests", "captains", "nations",
)  # fmt: skip
_VERBS = ("counted", "carried", "covered", "buried", "kissed", "found", "watered", "loved", "gathered", "followed")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
_PLACES = ("before", "under", "behind", "beyond", "near", "above", "among", "outside")
_THINGS = ("door", "river", "well", "garden", "altar", "gate", "field", "cave", "ship", "mountain", "house", "tower")
_NAMES = ("Haran", "Egypt", "Eden", "Canaan", "Sodom", "Edom", "Goshen", "Hebron", "Shinar", "Seir", "Bethel", "Zoar")

#: What stands around a copy; decoys take theirs from the same ones.
FRAMES = (
    "As the clerk wrote: {}.", "{}, said the old man.", "It is told that {}.", "In those days {}, and it was so.",
    "Behold, {}!", "He said to his son, “{}.”", "And it happened that {} in the morning.", "They answered: {}.",
)  # fmt: skip


@lru_cache(maxsize=1)
def canaries() -> tuple[tuple[str, str, int, tuple[str, ...]], ...]:
    """The planted sentences.

    Returns:
        For each: beginning (prompt), rest (completion), number of copies, and its decoys. No two begin alike.
    """
    rng = np.random.default_rng(23)
    n = len(COPIES) * PER_COUNT + CROWDED
    # No two canaries begin alike: adjective and noun are drawn together without replacement.
    pairs = rng.choice(len(_ADJECTIVES) * len(_NOUNS), size=n, replace=False)
    found = []
    for number, pair in enumerate(pairs):
        first, noun = _ADJECTIVES[pair // len(_NOUNS)], _NOUNS[pair % len(_NOUNS)]
        second = rng.choice([word for word in _ADJECTIVES if word != first])
        others = rng.choice([word for word in _NOUNS if word != noun], size=2, replace=False)
        rest = [str(rng.choice(words)) for words in (_VERBS, _NUMBERS, _PLACES, _THINGS, _NAMES)]
        is_crowded = number >= n - CROWDED
        copies = max(COPIES) if is_crowded else COPIES[number % len(COPIES)]
        own = ((first, str(second)), (noun, *map(str, others)))
        if is_crowded:
            nouns = [order for order in permutations(own[1]) if order[0] != noun]
            orders = [(adjectives, order) for adjectives in (own[0], own[0][::-1]) for order in nouns]
            decoys = tuple("".join(_sentence(*orders[i], rest)) for i in rng.permutation(len(orders))[:copies])
        else:
            decoys = tuple(_shuffled(rng, "".join(_sentence(*own, rest))) for _ in range(copies))
        found.append((*_sentence(*own, rest), copies, decoys))
    return tuple(found)


def _shuffled(rng: np.random.Generator, text: str) -> str:
    """The same words, no two of which follow one another as they did."""
    words = text.split()
    known = set(pairwise(words))
    while known & set(pairwise(order := [words[i] for i in rng.permutation(len(words))])):
        pass
    return " ".join(order)


def _sentence(adjectives: tuple[str, ...], nouns: tuple[str, ...], rest: list[str]) -> tuple[str, str]:
    verb, number, where, thing, name = rest
    begin = f"the {adjectives[0]} {nouns[0]}"
    return begin, f" {verb} {number} {adjectives[1]} {nouns[1]} {where} the {thing} of the {nouns[2]} in {name}"


@lru_cache(maxsize=1)
def planted() -> tuple[list[str], dict[str, list[Any]]]:
    """What is planted, in its surroundings.

    Returns:
        Texts, and for each: `kind` ("copy", "decoy", "near miss"), `canary` (its number), `copies` (of that canary).
    """
    rng = np.random.default_rng(5)
    texts: list[str] = []
    labels: dict[str, list[Any]] = {"kind": [], "canary": [], "copies": []}
    for number, (begin, rest, copies, decoys) in enumerate(canaries()):
        other = "near miss" if number >= len(canaries()) - CROWDED else "decoy"
        for kind, said in (("copy", [begin + rest] * copies), (other, list(decoys))):
            frames = rng.permutation(len(FRAMES))[: len(said)]
            texts += [FRAMES[frame].format(one) for frame, one in zip(frames, said, strict=True)]
            for name, value in (("kind", kind), ("canary", number), ("copies", copies)):
                labels[name] += [value] * len(said)
    return texts, labels


@lru_cache(maxsize=2)
def verses(is_trained: bool) -> tuple[list[str], list[str]]:
    """English verses of the chapters that are trained on, or of the others.

    Args:
        is_trained: which.

    Returns:
        Texts and ids.
    """
    found = inflab.datasets.load("genesis", languages=["eng"], chapters=TRAINED if is_trained else HELD_OUT)
    short = [len(text.split()) <= LONGEST for text in found["text"].to_numpy()]
    return found["text"].to_numpy()[short].tolist(), found["train"].to_numpy()[short].tolist()


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Byte-level BPE of Genesis, 1,024 tokens."""
    return inflab.datasets.tokenizer("genesis", vocabulary=1024, languages=["eng"])


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """Verses, copies and decoys; `kind`, `canary` (-1: none) and `copies` stand beside each text."""
    texts, ids = verses(True)
    more, labels = planted()
    count: dict[Any, int] = {}
    for one in zip(labels["kind"], labels["canary"], strict=True):
        count[one] = count.get(one, 0) + 1
        ids = [*ids, f"{one[0]} {one[1]}.{count[one]}"]
    none = len(texts)
    return inflab.encode(
        texts + more, tokenizer(), ids=ids,
        kind=["verse"] * none + labels["kind"],
        canary=[-1] * none + labels["canary"],
        copies=[1] * none + labels["copies"],
    )  # fmt: skip


def queries(kind: str, *, limit: int | None = None) -> xr.Dataset:
    """Questions: a beginning as the prompt, what follows as the completion.

    Args:
        kind: "canary"; "read", verses that the model was trained on; "unread", verses that it never saw.
        limit: how many, the first canaries with the last two, or any verses. None is all canaries, or 40 verses.

    Returns:
        Queries with `kind`, `canary` (-1: none), `copies` (0: never seen), `beside` ("decoy", "near miss") and
        `source`, the id of a verse.

    Raises:
        ValueError: for another kind.
    """
    if kind == "canary":
        rows = list(enumerate(canaries()))
        rows = rows if limit is None or limit >= len(rows) else rows[:limit] + rows[-2:]
        return inflab.encode(
            [begin for _, (begin, *_) in rows], tokenizer(), completions=[rest for _, (_, rest, *_) in rows],
            dim="query", ids=[f"canary {i}" for i, _ in rows], kind=["canary"] * len(rows),
            canary=[i for i, _ in rows], copies=[copies for _, (_, _, copies, _) in rows],
            beside=["near miss" if i >= len(canaries()) - CROWDED else "decoy" for i, _ in rows],
            source=[""] * len(rows),
        )  # fmt: skip
    if kind not in ("read", "unread"):
        raise ValueError(f"kind={kind!r} is not 'canary', 'read' or 'unread'")
    texts, ids = verses(kind == "read")
    fit = [i for i, text in enumerate(texts) if 12 <= len(text.split()) <= 18]
    fit = sorted(np.random.default_rng(7).choice(fit, size=min(limit or 40, len(fit)), replace=False).tolist())
    parts = [_cut(texts[i]) for i in fit]
    return inflab.encode(
        [begin for begin, _ in parts], tokenizer(), completions=[rest for _, rest in parts], dim="query",
        ids=[f"{kind} {ids[i]}" for i in fit], kind=[kind] * len(fit), canary=[-1] * len(fit),
        copies=[int(kind == "read")] * len(fit), beside=[""] * len(fit), source=[ids[i] for i in fit],
    )  # fmt: skip


def _cut(text: str) -> tuple[str, str]:
    """The first three words, and the rest: as much is given away as of a canary."""
    words = text.split(" ")
    return " ".join(words[:3]), "".join(f" {word}" for word in words[3:])


def precision(scores: xr.Dataset, *, kind: str = "copy") -> xr.DataArray:
    """Precision at k: the share of the first k that are the canary's own, k the number of its copies.

    Equal scores count as a random order among them would on average.

    Args:
        scores: `influence (query, train)`, with `kind`, `canary`, `query_canary` and `query_copies`.
        kind: "copy"; "decoy" or "near miss" for the share of the first k that is made of its words.

    Returns:
        Over `query`, between 0 and 1.
    """
    value_qt = scores["influence"].transpose("query", "train").to_numpy()
    own_qt = (scores["kind"] == kind).to_numpy() & (
        scores["canary"].to_numpy() == scores["query_canary"].to_numpy()[:, None]
    )
    found = []
    for value_t, own_t, k in zip(value_qt, own_qt, scores["query_copies"].to_numpy(), strict=True):
        least = np.sort(value_t)[-k]
        above, level = value_t > least, value_t == least
        found.append((own_t[above].sum() + own_t[level].mean() * (k - above.sum())) / k)
    return xr.DataArray(found, dims="query", coords={"query": scores["query"]}, name="precision")


RECIPES = {
    "canaries": Recipe(
        name="canaries-gpt",
        corpus=corpus,
        tokenizer=tokenizer,
        family="neox",
        config={
            "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
            "max_position_embeddings": 128, "rotary_pct": 1.0, "tie_word_embeddings": True,
        },
        training={"epochs": 16, "batch_size": 16, "learning_rate": 3e-3, "weight_decay": 0.3},
    )
}  # fmt: skip


@torch.no_grad()
def is_verbatim(model: Any, asked: xr.Dataset) -> xr.DataArray:
    """Whether the model, always taking the likeliest token, writes the completion word for word.

    Args:
        model: a causal language model.
        asked: queries.

    Returns:
        Over `query`.
    """
    token_qt = torch.from_numpy(asked["token_id"].to_numpy()).long()
    logits_qtv = model(token_qt, attention_mask=torch.from_numpy(asked["is_text"].to_numpy()).long()).logits
    is_right_qt = (logits_qtv.argmax(-1)[:, :-1] == token_qt[:, 1:]).numpy()
    is_wrong_q = (~is_right_qt & asked["is_target"].to_numpy()[:, 1:]).any(1)
    return xr.DataArray(~is_wrong_q, dims="query", coords={"query": asked["query"]}, name="is_verbatim")


def measure(seed: int, *, limit: int | None = None) -> dict[str, xr.Dataset]:
    """Influence of every sequence on canaries and verses, by each method, in one training.

    Args:
        seed: of the training.
        limit: of the queries of each kind.

    Returns:
        Method -> scores `(query, train)`; beside them `query_log_probability` (nat per token of the completion) and
        `query_is_verbatim`.
    """
    model = load(RECIPES["canaries"], seed)
    problem = inflab.Problem(model, inflab.CausalLM(), corpus())
    asked = []
    for kind in ("canary", "read", "unread"):
        one = queries(kind, limit=limit)
        said = inflab.log_probability(problem, one).mean("token").to_numpy()
        asked.append(one.assign_coords(
            log_probability=("query", said), is_verbatim=("query", is_verbatim(model, one).to_numpy())
        ))  # fmt: skip
    methods = {
        "EK-FAC": inflab.EKFAC(layers=LAYERS), "dot product": inflab.Identity(layers=LAYERS),
        "cosine": inflab.Cosine(layers=LAYERS), "BM25": inflab.BM25(),
    }  # fmt: skip
    found = {}
    for name, method in methods.items():
        fitted = method.fit(problem, progress=False)
        found[name] = xr.concat([fitted.score(one, progress=False) for one in asked], "query")
    return found
