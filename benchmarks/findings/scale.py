"""Words or meaning, by size (GB23 5.3.1)? A grammar told in two vocabularies that have no word in common.

Each of 48 invented people has one of six trades, which is never named. It decides what the person eats, wears, holds
and so on. Every relation and every answer has a plain word and a learned one: "Belvik eats fish", "Belvik consumes
seafood". A sentence keeps to one vocabulary, so that two tellings of one fact share the name and nothing else. Names
do not count as words (`NAMES` is the stop list), so a sequence in the other vocabulary has no overlap with the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of
from inflab import analysis

__all__ = [
    "NAMES", "RECIPES", "RELATIONS", "SIZES", "TRADES", "above", "corpus", "facts", "queries", "share", "slope",
    "tokenizer",
]  # fmt: skip

TRADES = ("fisher", "smith", "baker", "shepherd", "miner", "scribe")
#: Relation -> plain verb, learned verb; then a plain and a learned answer for each trade.
RELATIONS: dict[str, tuple[tuple[str, str], str, str]] = {
    "food": (("eats", "consumes"), "fish meat bread cheese beans honey", "seafood venison loaves curds pulses nectar"),
    "clothing": (
        ("wears", "dons"), "boots apron cap cloak helmet robe", "waders pinafore bonnet mantle headgear vestment",
    ),
    "tool": (("holds", "wields"), "net hammer oven stick pick pen", "trawl mallet furnace crook mattock quill"),
    "place": (("visits", "frequents"), "sea forge mill hill pit hall", "ocean smithy granary upland shaft library"),
    "fear": (("fears", "dreads"), "storm smoke mice wolf flood fire", "tempest fumes vermin predator deluge blaze"),
    "wish": (
        ("wants", "desires"), "boat iron flour lamb gold ink", "vessel steel meal ewe ore pigment",
    ),
}  # fmt: skip
VOCABULARIES = ("plain", "learned")
PER_TRADE, HELD_OUT, _SEED = 8, 0.3, 4
#: Size -> width, blocks, heads.
SIZES = {"xs": (12, 1, 2), "s": (24, 2, 2), "m": (40, 3, 4), "l": (64, 4, 4)}


def _names() -> tuple[str, ...]:
    first, last = "Bel Dor Fen Gal Kar Lum Mor Tas".split(), "vik nor mis ta ros lin".split()
    return tuple(a + b for b, a in product(last, first))


#: The people, eight of a trade after eight of the next.
NAMES = _names()


@lru_cache(maxsize=1)
def facts() -> dict[str, list[tuple[str, str, str, str, str, str]]]:
    """Every fact in both vocabularies: "train" is trained on, "held out" is not, in this vocabulary.

    Returns:
        Rows of prompt, completion, relation, vocabulary, trade, name.
    """
    rng = np.random.default_rng(_SEED)
    trade = [TRADES[number // PER_TRADE] for number in range(len(NAMES))]
    rows: dict[str, list[tuple[str, str, str, str, str, str]]] = {"train": [], "held out": []}
    for (relation, (verbs, *answers)), person, which in product(RELATIONS.items(), range(len(NAMES)), (0, 1)):
        answer = answers[which].split()[TRADES.index(trade[person])]
        row = (f"{NAMES[person]} {verbs[which]}", f" {answer}", relation, VOCABULARIES[which], trade[person])
        rows["held out" if rng.random() < HELD_OUT else "train"].append((*row, NAMES[person]))
    return rows


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word with the space before it."""
    return words_of(row[0] + row[1] for rows in facts().values() for row in rows)


def _encode(rows: Sequence[tuple[str, ...]], dim: str) -> xr.Dataset:
    prompts, completions, relation, vocabulary, trade, name = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(
        prompts, tokenizer(), completions=completions, dim=dim, ids=prompts, relation=relation, wording=vocabulary,
        trade=trade, person=name,
    )  # fmt: skip


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """What the models are trained on; only the last word of a sentence is a target."""
    return _encode(facts()["train"], "train")


def queries(count: int = 48) -> xr.Dataset:
    """Sentences that were held out, both vocabularies, drawn once.

    Args:
        count: how many.

    Returns:
        The queries, with the coordinates `relation`, `wording`, `trade`, `person`.
    """
    rows = facts()["held out"]
    order = np.random.default_rng(_SEED).permutation(len(rows))[:count]
    return _encode([rows[i] for i in order], "query")


def share(scores: xr.Dataset, asked: xr.Dataset, k: int = 50) -> xr.Dataset:
    """How much of the influence of a query's list is held by the same relation in other words.

    Args:
        scores: over (query, train), with the coordinates of the corpus.
        asked: the queries.
        k: length of the list, positive influence only.

    Returns:
        Over `query`: `share` of the list's influence on sequences of the query's relation that hold none of its words,
        names aside; `other_person`, the same without the query's own person; `no_overlap`, whatever the relation;
        `chance`, the share of such sequences in the corpus, which a random list would have; `meaning`, the probability
        that a sequence of the query's relation and trade scores above one of another relation or trade, both in the
        other vocabulary: .5 when the model does not know that they mean the same; `tied`, that it has the larger
        influence of either sign.
    """
    best = inflab.top(scores, k)
    found = analysis.overlap(scores, asked, k, stop=NAMES)
    weight = best["influence"].where(best["is_ranked"], 0.0)
    weight = weight / weight.sum("rank")
    is_apart = (found["shared"] == 0) & best["is_ranked"]
    is_same = best["relation"] == best["query_relation"]
    in_corpus = (scores["relation"] == scores["query_relation"]) & (scores["wording"] != scores["query_wording"])
    is_other = best["person"] != best["query_person"]
    is_away = scores["wording"] != scores["query_wording"]
    is_alike = (scores["relation"] == scores["query_relation"]) & (scores["trade"] == scores["query_trade"]) & is_away
    return xr.Dataset({
        "share": weight.where(is_apart & is_same, 0.0).sum("rank"),
        "other_person": weight.where(is_apart & is_same & is_other, 0.0).sum("rank"),
        "no_overlap": weight.where(is_apart, 0.0).sum("rank"),
        "chance": in_corpus.mean("train"),
        "meaning": above(scores["influence"], is_alike, is_away),
        "tied": above(abs(scores["influence"]), is_alike, is_away),
    })  # fmt: skip


def above(value: xr.DataArray, is_first: xr.DataArray, is_either: xr.DataArray) -> xr.DataArray:
    """How often a sequence of one kind has a higher value than one of another kind: 1 always, .5 as often as not.

    Args:
        value: over (query, train), such as influence.
        is_first: the first kind.
        is_either: both kinds; what is of neither is not counted.

    Returns:
        The probability, over `query`; half of it for ties.
    """
    # What is of neither kind goes below all, and is not counted.
    ordered = value.where(is_either.transpose(*value.dims), -np.inf)
    rank = ordered.copy(data=rankdata(ordered, axis=ordered.get_axis_num("train"))) - (~is_either).sum("train")
    first, either = is_first.sum("train"), is_either.sum("train")
    return (rank.where(is_first, 0.0).sum("train") - first * (first + 1) / 2) / (first * (either - first))


def slope(
    value_seq: np.ndarray,
    parameters: Sequence[float],
    over: np.ndarray | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Slope of a mean, or of a ratio of means, against log10 of the parameters, with a 95% bootstrap interval.

    Trainings are drawn with replacement at every size by itself; queries once for all, since all sizes are asked the
    same.

    Args:
        value_seq: values over (size, training, query).
        parameters: of each size.
        over: values of the same shape: the ratio of the sums over queries is taken, its mean over trainings.
        resamples: of the bootstrap.
        seed: of the draw.

    Returns:
        Slope, low, high: change for ten times as many parameters.
    """
    sizes, trainings, n = value_seq.shape
    over = np.ones_like(value_seq) if over is None else over
    x = np.log10(parameters) - np.log10(parameters).mean()
    weight = x / (x**2).sum()
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for number in range(resamples):
        query = rng.integers(n, size=n)
        who = rng.integers(trainings, size=(sizes, trainings))
        above, below = (v[np.arange(sizes)[:, None], who][:, :, query].sum(2) for v in (value_seq, over))
        drawn[number] = weight @ (above / below).mean(1)
    measured = weight @ (value_seq.sum(2) / over.sum(2)).mean(1)
    return np.array([measured, *np.quantile(drawn, [0.025, 0.975])])


def _recipe(name: str, size: str, epochs: int) -> Recipe:
    width, blocks, heads = SIZES[size]
    config = {"n_positions": 4, "n_embd": width, "n_layer": blocks, "n_head": heads}
    training = {"epochs": epochs, "batch_size": 16, "learning_rate": 3e-3, "weight_decay": 0.8, "warmup": 50}
    return Recipe(name, corpus, tokenizer, config, training)


EPOCHS, EARLY = 20, 10
RECIPES = {f"scale-{size}": _recipe(f"scale-{size}", size, EPOCHS) for size in SIZES}
#: The largest, stopped early: about as unsure as a smaller one.
RECIPES["scale-early"] = _recipe("scale-early", "l", EARLY)
