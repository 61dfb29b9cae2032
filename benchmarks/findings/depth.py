"""Where in the network a question is answered from: memorised strings against rules, in the same words (GB23 5.3.2).

A text is an operation, three words, a colon and three words: " sort kite amber stone : amber kite stone". Four of the
operations follow a rule, and triples that were never trained on have an answer all the same. The fifth, " recall", has
answers drawn at random once: it can only be memorised. Words, length and form are the same for all five, so that what
differs between the two kinds of query is whether there is a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of

__all__ = [
    "KINDS", "OPERATIONS", "RECIPES", "WORDS", "accuracy", "contrast", "corpus", "heaviest", "queries", "relative",
    "texts", "tokenizer",
]  # fmt: skip

#: In the order of the alphabet, which " sort" and " next" rest on.
WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron",
    "iris", "jade", "kite", "lamp", "maple", "north", "olive", "pearl",
)  # fmt: skip
Triple = tuple[int, ...]
RULES: dict[str, Callable[[Triple], Triple]] = {
    "copy": lambda t: t,
    "reverse": lambda t: (t[2], t[1], t[0]),
    "sort": lambda t: tuple(sorted(t)),
    "next": lambda t: tuple((word + 1) % len(WORDS) for word in t),
}
OPERATIONS = ("recall", *RULES)
#: What a query may be: memorised, a rule's held-out item, a rule's item that was trained on.
KINDS = ("memorised", "rule", "rule, trained on")
PER_RULE, MEMORISED, COPIES = 300, 64, 4
_SEED = 20


@lru_cache(maxsize=1)
def texts() -> dict[str, list[tuple[str, str]]]:
    """Every item: "recall" and the rules hold what is trained on, "held out" what is not.

    Returns:
        Operation or "held out: " and a rule -> prompts and completions.
    """
    rng = np.random.default_rng(_SEED)
    # Three different words: for " copy" and " sort" of a repeated word there is less to know.
    triples = [t for t in product(range(len(WORDS)), repeat=3) if len(set(t)) == 3]
    items: dict[str, list[tuple[str, str]]] = {}
    for operation in OPERATIONS:
        drawn = [triples[i] for i in rng.permutation(len(triples))]
        answers = [triples[i] for i in rng.permutation(len(triples))]
        rule, count = RULES.get(operation), PER_RULE if operation in RULES else MEMORISED
        pairs = list(zip(drawn, answers, strict=True))[:count]
        items[operation] = [_item(operation, t, rule(t) if rule else answer) for t, answer in pairs]
        if rule:
            # A sorted triple is its own answer, as a copy is: such items ask for no more than copying.
            rest = [t for t in drawn[count : 2 * count] if operation == "copy" or rule(t) != t]
            items[f"held out: {operation}"] = [_item(operation, t, rule(t)) for t in rest]
    return items


def _item(operation: str, triple: Triple, answer: Triple) -> tuple[str, str]:
    words, said = (" ".join(WORDS[w] for w in one) for one in (triple, answer))
    return f"{operation} {words} :", f" {said}"


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word with the space before it."""
    return words_of(p + c for items in texts().values() for p, c in items)


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """What the models are trained on; only the answers are targets.

    What is to be memorised stands there four times, as quotes do in the corpora of large models. So it is known as soon
    as the rules are, and training can stop before these are certain and without gradient.

    Returns:
        The corpus, with the coordinate `operation`.
    """
    rows = [
        (operation, f"{item[0]} copy {copy + 1}" if operation == "recall" else item[0], *item)
        for operation in OPERATIONS
        for item in texts()[operation]
        for copy in range(COPIES if operation == "recall" else 1)
    ]
    operation, ids, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(prompts, tokenizer(), completions=completions, ids=ids, operation=operation)


def queries(each: int = 12) -> xr.Dataset:
    """Queries of three kinds, equally many memorised ones and rule-based ones.

    Args:
        each: of every rule; four times as many of each kind.

    Returns:
        The queries, with the coordinates `kind` and `operation`.
    """
    rows = [("memorised", "recall", *item) for item in texts()["recall"][: each * len(RULES)]]
    for rule in RULES:
        rows += [("rule", rule, *item) for item in texts()[f"held out: {rule}"][:each]]
        taught = [(p, c) for p, c in texts()[rule] if rule == "copy" or p.split()[1:4] != c.split()]
        rows += [("rule, trained on", rule, *item) for item in taught[:each]]
    kind, operation, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(
        prompts, tokenizer(), completions=completions, dim="query", ids=prompts, kind=kind, operation=operation
    )


@torch.no_grad()
def accuracy(model: Any, asked: xr.Dataset) -> xr.Dataset:
    """Whether the most probable answer is the right one, all three words, and how probable the right one is.

    Args:
        model: a causal language model.
        asked: queries.

    Returns:
        `is_right (query)`, and `probability (query)` of the whole completion.
    """
    token_bt, is_target_bt = (torch.from_numpy(asked[name].to_numpy()) for name in ("token_id", "is_target"))
    log_btv = model(token_bt.long()).logits[:, :-1].log_softmax(-1)
    truth_bt, where = token_bt[:, 1:].long(), is_target_bt[:, 1:]
    right = ((log_btv.argmax(-1) == truth_bt) | ~where).all(1).numpy()
    log_bt = log_btv.gather(-1, truth_bt[..., None])[..., 0].where(where, 0.0)
    own = {name: value for name, value in asked.coords.items() if value.dims == ("query",)}
    return xr.Dataset({"is_right": ("query", right), "probability": ("query", log_bt.sum(1).exp().numpy())}, coords=own)


def heaviest(scores: xr.Dataset, k: int = 50) -> xr.Dataset:
    """The k training sequences of greatest influence of each query, layer by layer.

    Args:
        scores: over (query, train, layer).
        k: how many.

    Returns:
        The same over (query, rank, layer).
    """
    influence = scores["influence"].transpose("query", "train", "layer")
    order = np.argsort(-influence.sum("layer").to_numpy(), axis=1, kind="stable")[:, :k]
    taken = np.take_along_axis(influence.to_numpy(), order[..., None], axis=1)
    coords = {name: value for name, value in scores.coords.items() if "train" not in value.dims}
    return xr.Dataset(
        {"influence": (("query", "rank", "layer"), taken, influence.attrs)}, coords=coords, attrs=scores.attrs
    )


def relative(scores: xr.Dataset, own: xr.Dataset) -> xr.Dataset:
    """Scores of each layer divided by how strong the layer is: its mean self-influence over the training set.

    Args:
        scores: over (query, train, layer).
        own: `influence (train, layer)`, from `Influence.self_influence(by="layer")`.

    Returns:
        Scores in which a layer counts for what it says of this pair, not for the size of its gradients.
    """
    strength = own["influence"].mean("train")
    return scores.assign(influence=scores["influence"] / strength)


def contrast(mass: xr.DataArray) -> xr.DataArray:
    """Share of the influence in the outer quarters of the network minus that in its inner half.

    Args:
        mass: over (query, block), summing to 1 for each query, from `inflab.analysis.depth`.

    Returns:
        Over `query`: 1 when all lies at the ends, 0 when evenly spread, -1 when all lies in the middle.
    """
    blocks = mass.sizes["block"]
    outer = min(max(1, round(blocks / 4)), blocks // 2)
    is_end = np.ones(blocks, bool)
    is_end[outer : blocks - outer] = False
    sign = xr.DataArray(np.where(is_end, 1.0, -1.0), dims="block", coords={"block": mass["block"]})
    return (mass * sign).sum("block").rename("contrast")


RECIPES = {
    "layers": Recipe(
        "layers", corpus, tokenizer,
        {"n_positions": 8, "n_embd": 48, "n_layer": 8, "n_head": 4},
        {"epochs": 30, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.3, "warmup": 100},
    ),
}  # fmt: skip
