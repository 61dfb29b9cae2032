"""Three ways to say which tokens of a training sequence count, on facts that were planted (GB23 appendix B.2).

Each fact is told three times: before, between and after two sentences that have nothing to do with it, other ones each
time. So it is known which tokens of a sequence name the subject, which the relation, which the answer, and which are
beside the point. Every country has one fact and every relation many: it is the subject that tells the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of
from inflab.datasets.facts import Fact, invent, read_facts

__all__ = [
    "RECIPES", "REGIONS", "VIEWS", "attributed", "corpus", "facts", "parts", "peaks", "queries", "regions", "shares",
    "taught_by", "tokenizer",
]  # fmt: skip

VIEWS = ("update", "output", "input")
#: Parts of a training sequence, in the order in which they stand there; "relation" also holds what follows the subject.
REGIONS = ("sentence before", "relation", "subject", "last of the prompt", "answer", "full stop", "sentence after")
_FACTS = 40
_SEED = 4


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """The planted facts; the first is the paper's."""
    made = invent(5 * _FACTS, seed=0)
    return tuple(
        {fact.subject: fact for fact in reversed(made)}[name] for name in dict.fromkeys(f.subject for f in made)
    )


@lru_cache(maxsize=1)
def parts() -> tuple[tuple[int, int, tuple[str, str, str]], ...]:
    """The sequences.

    Returns:
        Of each the number of its fact (its place in `facts`), the place of the fact's sentence (0, 1, 2), and the three
        sentences. A space stands before each, so that a word is the same token wherever it stands.
    """
    said = read_facts(100, n_distractors=400)
    other = [f" {text}" for text, kind in zip(said.texts, said.coords["kind"], strict=True) if kind == "other"]
    rng = np.random.default_rng(_SEED)
    rows = []
    for number, fact in enumerate(facts()):
        for place in range(3):
            around = [other[i] for i in rng.choice(len(other), size=2, replace=False)]
            around.insert(place, f" {fact.sentence('forward')}")
            rows.append((number, place, (around[0], around[1], around[2])))
    return tuple(rows)


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word with the space before it."""
    return words_of("".join(texts) for _, _, texts in parts())


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """Three sequences for each fact."""
    numbers, places, texts = zip(*parts(), strict=True)
    return inflab.encode(
        ["".join(row) for row in texts], tokenizer(), ids=[_id(*row) for row in zip(numbers, places, strict=True)],
        fact=list(numbers), place=list(places), relation=[facts()[number].relation.name for number in numbers],
    )  # fmt: skip


def _id(number: int, place: int) -> str:
    return f"fact {number} {('before', 'between', 'after')[place]}"


def queries(limit: int | None = None) -> xr.Dataset:
    """What the facts are asked by, without the sentences around them.

    Args:
        limit: how many; all when None.

    Returns:
        The queries, with `fact` and `relation`.
    """
    made = facts()[:limit]
    prompts, completions = zip(*(fact.question("forward") for fact in made), strict=True)
    return inflab.encode(
        [f" {prompt}" for prompt in prompts], tokenizer(), completions=list(completions), dim="query",
        ids=[f"fact {number}" for number in range(len(made))], fact=list(range(len(made))),
        relation=[fact.relation.name for fact in made],
    )  # fmt: skip


def regions(number: int, place: int = 1) -> list[str]:
    """The part of a sequence to which each of its tokens belongs.

    Args:
        number: of the fact.
        place: of the fact's sentence among the three.

    Returns:
        One of `REGIONS` for each token.
    """
    fact = facts()[number]
    texts = next(texts for one, where, texts in parts() if (one, where) == (number, place))
    prompt, completion = fact.question("forward")
    head, tail = f" {prompt}".split(f" {fact.subject}")

    def count(text: str) -> int:
        return len(tokenizer()(text)["input_ids"]) if text else 0

    own = ["relation"] * count(head) + ["subject"] + ["relation"] * (count(tail) - 1) + ["last of the prompt"]
    own += ["answer"] * count(completion) + ["full stop"]
    before, after = count("".join(texts[:place])), count("".join(texts[place + 1 :]))
    return ["sentence before"] * before + own + ["sentence after"] * after


def taught_by(asked: xr.Dataset) -> xr.Dataset:
    """Of each query the sequence in which its fact stands between two other sentences, as a list of one.

    Args:
        asked: from `queries`.

    Returns:
        `train (query, rank)`, as `inflab.Influence.attribute` takes it.
    """
    ids = np.array([[_id(int(number), 1)] for number in asked["fact"].to_numpy()])
    coords = {"query": asked["query"].to_numpy(), "rank": [1]}
    return xr.Dataset({"train": (("query", "rank"), ids)}, coords=coords)


def attributed(influence: Any, asked: xr.Dataset) -> dict[str, xr.Dataset]:
    """The three views of the pairs of each query and the sequence that taught it, layers summed.

    Args:
        influence: a fitted method.
        asked: from `queries`.

    Returns:
        For each view `influence (query, rank, token)` with `token_text`, `is_text` and `region (query, token)`.
    """
    found = {}
    for view in VIEWS:
        one = influence.attribute(asked, taught_by(asked), view=view, progress=False)
        if "layer" in one.dims:
            kept = one["influence"].attrs
            one = one.assign(influence=one["influence"].sum("layer", skipna=False).assign_attrs(kept))
        width = one.sizes["token"]
        rows = [regions(int(number)) for number in asked["fact"].to_numpy()]
        padded = [row + [""] * (width - len(row)) for row in rows]
        found[view] = one.assign_coords(region=(("query", "token"), np.array(padded)))
    return found


def shares(views: Mapping[str, xr.Dataset]) -> xr.DataArray:
    """How much of each view's positive mass lies on each part of the sequence.

    Args:
        views: from `attributed`.

    Returns:
        Shares over (query, view, region); they sum to 1 over `region`.
    """
    rows = []
    for one in views.values():
        value_qt, region_qt = _positive(one), one["region"].to_numpy()
        mass_qr = np.stack([np.where(region_qt == name, value_qt, 0).sum(1) for name in REGIONS], axis=1)
        rows.append(mass_qr / mass_qr.sum(1, keepdims=True))
    first = next(iter(views.values()))
    coords = {"query": first["query"].to_numpy(), "view": list(views), "region": list(REGIONS)}
    return xr.DataArray(np.stack(rows, axis=1), dims=("query", "view", "region"), coords=coords, name="share")


def peaks(views: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """The token that each view lights most.

    Args:
        views: from `attributed`.

    Returns:
        Over (query, view): `region` in which it lies, and `offset`, its distance in tokens from the answer's first.
    """
    region, offset = [], []
    for one in views.values():
        at_q, region_qt = _positive(one).argmax(1), one["region"].to_numpy()
        region.append(region_qt[np.arange(len(at_q)), at_q])
        offset.append(at_q - (region_qt == "answer").argmax(1))
    first = next(iter(views.values()))
    coords = {"query": first["query"].to_numpy(), "view": list(views)}
    dims = ("query", "view")
    return xr.Dataset({"region": (dims, np.stack(region, 1)), "offset": (dims, np.stack(offset, 1))}, coords=coords)


def _positive(one: xr.Dataset) -> np.ndarray:
    value = one["influence"].isel(rank=0).transpose("query", "token").to_numpy()
    return np.where(one["region"].to_numpy() != "", np.clip(np.nan_to_num(value), 0, None), 0.0)


RECIPES = {
    "facts": Recipe(
        "token-views-facts", corpus, tokenizer,
        {
            "max_position_embeddings": 48, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3,
            "num_attention_heads": 4, "tie_word_embeddings": True,
        },
        {"epochs": 60, "batch_size": 16, "learning_rate": 5e-3, "weight_decay": 0.5, "warmup": 50},
        "neox",
    ),
}  # fmt: skip
