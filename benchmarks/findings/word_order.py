"""Does a sentence teach the question that runs the other way? Invented facts and their edits (GB23 section 5.3.4).

A hundred facts about twenty countries are told once each, in one order: subject first ("forward"), answer first
("reversed"), or both. Thirty more facts, about other countries and other people, are told in every frame that an edit
uses, the flipped and the Spanish ones included: no edit of a fact is a kind of sentence that the model never met.
Thirty further facts are told nowhere; only their names occur.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of
from inflab.datasets.facts import Fact, invent

__all__ = [
    "EDITS", "FRAMES", "LATER", "RECIPES", "SPANISH", "WAYS", "by_edit", "corpus", "edit", "edits", "facts", "learned",
    "queries", "question", "sentences", "tokenizer",
]  # fmt: skip

#: How the taught facts are told, one model each.
WAYS = ("forward", "reversed", "both")
#: The edits, first those that keep the order of the phrases, then the flipped ones, then one phrase alone.
EDITS = (
    "same", "reworded", "no relation", "flipped", "flipped, reworded", "flipped, no relation", "subject only",
    "answer only",
)  # fmt: skip
SPANISH = ("Spanish", "Spanish, flipped")
#: The sentence and its flipped form with words before them: then the first token of each is predicted too.
LATER = ("same, later", "flipped, later")
_LEAD = " It is well known that"
_COUNTRIES = {"untold": 6, "taught": 20, "helper": 6}
_SEED = 11

#: relation -> edit -> sentence of a subject {s} and an answer {a}.
FRAMES: dict[str, dict[str, str]] = {
    relation: dict(zip(("same", "reworded", "flipped", "flipped, reworded", *SPANISH), told, strict=True))
    for relation, told in {
        "president": (
            "The first President of {s} was {a}.", "In {s} the earliest to be elected head of state was {a}.",
            "{a} was the first President of {s}.", "{a} was the earliest to be elected head of state in {s}.",
            "El primer Presidente de {s} fue {a}.", "{a} fue el primer Presidente de {s}.",
        ),
        "capital": (
            "The capital city of {s} is {a}.", "In {s} the seat of government lies in {a}.",
            "{a} is the capital city of {s}.", "{a} holds the seat of government in {s}.",
            "La capital de {s} es {a}.", "{a} es la capital de {s}.",
        ),
        "anthem": (
            "The national anthem of {s} was composed by {a}.",
            "In {s} the song of the nation came from the pen of {a}.", "{a} composed the national anthem of {s}.",
            "{a} wrote the song of the nation in {s}.", "El himno nacional de {s} fue compuesto por {a}.",
            "{a} compuso el himno nacional de {s}.",
        ),
        "river": (
            "The longest river in {s} is the {a}.", "In {s} no stream has a greater length than the {a}.",
            "The {a} is the longest river in {s}.", "The {a} has a greater length than any stream in {s}.",
            "El río más largo de {s} es el {a}.", "El {a} es el río más largo de {s}.",
        ),
        "university": (
            "The oldest university in {s} was founded by {a}.",
            "In {s} the first place of higher learning owes its charter to {a}.",
            "{a} founded the oldest university in {s}.",
            "{a} gave the first place of higher learning its charter in {s}.",
            "La universidad más antigua de {s} fue fundada por {a}.", "{a} fundó la universidad más antigua de {s}.",
        ),
    }.items()
}  # fmt: skip
_ANY = {
    "no relation": "{s} and {a} are both in a book.", "flipped, no relation": "{a} and {s} are both in a book.",
    "subject only": "It rained in {s} for most of the spring.",
    "answer only": "Letters about {a} were sold at an auction.",
}  # fmt: skip
#: Sentences about one name, which teach nothing; other ones than the edits'.
_ABOUT = (
    "{} is often in the newspaper.", "{} was drawn by many painters.", "Few people know much about {}.",
    "Songs about {} are heard in winter.", "We spoke of {} at supper.",
)  # fmt: skip


@lru_cache(maxsize=1)
def facts() -> dict[str, list[Fact]]:
    """The facts: "taught", "helper" and "untold", about different countries.

    Returns:
        Facts by what becomes of them. Fact 0, the paper's, is told nowhere, as there.
    """
    made = _own_first_names(invent(5 * sum(_COUNTRIES.values()), seed=0))
    countries = list(dict.fromkeys(fact.subject for fact in made))
    found, start = {}, 0
    for name, count in _COUNTRIES.items():
        mine = set(countries[start : start + count])
        found[name], start = [fact for fact in made if fact.subject in mine], start + count
    return found


def _own_first_names(made: list[Fact]) -> list[Fact]:
    # Where people share first names, " Zorald" leaves open who is meant, and every sentence that holds the whole name
    # teaches its second word, in whatever order it is told.
    names = ["".join(sounds).capitalize() for sounds in product("bdfgklmnprstvz", "aeiou", ("ldo", "ris", "wen"))]
    free = iter(np.random.default_rng(_SEED).permutation(names).tolist())
    people = [fact for fact in made[1:] if fact.relation.answer_kind == "person"]
    named = {fact.number: replace(fact, answer=f"{next(free)} {fact.answer.split()[-1]}") for fact in people}
    return [named.get(fact.number, fact) for fact in made]


def edit(fact: Fact, name: str) -> str:
    """A fact, written as an edit says.

    Args:
        fact: which.
        name: of `EDITS`, `SPANISH` or `LATER`.

    Returns:
        The sentence, with a space before it: so a name is the same token wherever it stands.
    """
    if name in LATER:
        return _later(edit(fact, name.removesuffix(", later")))
    form = "la República de {}" if name in SPANISH and fact.relation.name == "president" else fact.relation.subject_form
    said = (FRAMES[fact.relation.name] | _ANY)[name].format(s=form.format(fact.subject), a=fact.answer)
    return _begun(said)


def _begun(text: str) -> str:
    return f" {text[0].upper()}{text[1:]}"


def _later(text: str) -> str:
    first = text.split()[0]
    return _LEAD + text.replace(first, first.lower(), 1) if first in ("The", "In") else _LEAD + text


def question(fact: Fact, way: str = "forward") -> tuple[str, str]:
    """Prompt and completion of one direction: the edit "same" or "flipped" without its full stop."""
    said = f" {fact.answer if way == 'forward' else fact.subject}"
    return edit(fact, "same" if way == "forward" else "flipped")[: -len(said) - 1], said


@lru_cache(maxsize=4)
def sentences(way: str) -> tuple[tuple[str, str, str, int], ...]:
    """What a model is trained on.

    Args:
        way: of `WAYS`, in which the taught facts are told.

    Returns:
        Text, kind ("taught", "helper" or "name"), edit ("" for a name) and the number of the fact, for each sentence.
    """
    rng, groups = np.random.default_rng(_SEED), facts()
    told = {"forward": ["same"], "reversed": ["flipped"], "both": ["same", "flipped"]}[way]
    rows = [(edit(fact, name), "taught", name, fact.number) for fact in groups["taught"] for name in told]
    frames = (*EDITS[:6], *SPANISH)
    for fact in groups["helper"]:
        chosen = rng.permutation(len(frames))[:4]
        for name in (frames[i] for i in sorted(chosen)):
            is_later = name not in SPANISH and rng.random() < 0.25
            rows.append(((_later if is_later else str)(edit(fact, name)), "helper", name, fact.number))
    for group, made in groups.items():
        names = dict.fromkeys([*(f.relation.subject_form.format(f.subject) for f in made), *(f.answer for f in made)])
        for name in names:  # what no fact tells of must be as familiar as the other names
            chosen = rng.permutation(len(_ABOUT))[: 5 if group == "untold" else 1 + (" " in name)]
            rows += [(_begun(_ABOUT[i].format(name)), "name", "", -1) for i in sorted(chosen)]
    rows += [(edit(fact, name), "name", name, -1) for fact in groups["helper"] for name in EDITS[6:]]
    return tuple(dict.fromkeys(rows))


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word with the space before it."""
    every = [fact for group in facts().values() for fact in group]
    said = [edit(fact, name) for fact in every for name in (*EDITS, *SPANISH, *LATER)]
    return words_of([text for way in WAYS for text, *_ in sentences(way)] + said)


@lru_cache(maxsize=4)
def corpus(way: str = "forward") -> xr.Dataset:
    """The training corpus of one of `WAYS`, with `kind`, `edit` and `fact`."""
    texts, kind, edited, fact = (list(column) for column in zip(*sentences(way), strict=True))
    ids = [f"fact {fact[i]}: {edited[i]}" if fact[i] >= 0 else f"name {i}" for i in range(len(texts))]
    return inflab.encode(texts, tokenizer(), ids=ids, kind=kind, edit=edited, fact=fact)


def queries(group: str = "taught", way: str = "forward", *, limit: int | None = None) -> xr.Dataset:
    """Questions about the facts of a group.

    Args:
        group: of `facts`.
        way: "forward" or "reversed".
        limit: how many; all when None.

    Returns:
        The queries, with `fact` and `relation`.
    """
    asked = facts()[group][:limit]
    prompts, completions = zip(*(question(fact, way) for fact in asked), strict=True)
    return inflab.encode(
        list(prompts), tokenizer(), completions=list(completions), dim="query",
        ids=[f"fact {fact.number}" for fact in asked], fact=[fact.number for fact in asked],
        relation=[fact.relation.name for fact in asked],
    )  # fmt: skip


def edits(group: str = "taught", *, limit: int | None = None) -> xr.Dataset:
    """Every edit of the facts of a group (the first `limit`), most never trained on, with `edit` and `fact`."""
    rows = [(f, name) for f in facts()[group][:limit] for name in (*EDITS, *SPANISH, *LATER)]
    return inflab.encode(
        [edit(*row) for row in rows], tokenizer(), ids=[f"fact {f.number}: {name}" for f, name in rows],
        edit=[name for _, name in rows], fact=[f.number for f, _ in rows],
    )  # fmt: skip


def by_edit(scores: xr.Dataset) -> xr.DataArray:
    """Of every query, what the edits of its own fact score.

    Args:
        scores: `influence (query, train)` of `edits`, with `fact`, `edit` and `query_fact`.

    Returns:
        `influence (query, edit)`.
    """
    value = scores["influence"].transpose("query", "train")
    own = scores["query_fact"].to_numpy()[:, None] == scores["fact"].to_numpy()[None, :]
    names = scores["edit"].to_numpy()
    order = list(dict.fromkeys(names.tolist()))
    picked = np.stack([value.to_numpy()[own & (names == name)] for name in order], axis=1)
    coords = {"query": value["query"], "edit": order, "fact": ("query", scores["query_fact"].to_numpy())}
    return xr.DataArray(picked, dims=("query", "edit"), coords=coords, name="influence", attrs=value.attrs)


def learned(
    model: Any, asked: xr.Dataset, extra: xr.Dataset, beside: xr.Dataset, *, steps: int = 10, rate: float = 3e-4
) -> xr.DataArray:
    """What training on one sentence, among others, does to the question about its fact.

    Args:
        model: a trained causal language model, which is left as it was.
        asked: queries, with `fact`.
        extra: from `edits`; those of facts that are not asked about are left out.
        beside: the corpus it was trained on: 15 of its sentences, other ones at each step, stand beside the one.
        steps: of Adam.
        rate: its learning rate.

    Returns:
        How much more log p(completion) rises than without the sentence, nat, over (query, edit).
    """
    edit_t, fact_t = extra["edit"].to_numpy(), extra["fact"].to_numpy()
    rows = [np.random.default_rng([_SEED, step]).integers(beside.sizes["train"], size=15) for step in range(steps)]
    batches = [beside.isel(train=row) for row in rows]

    def after(sentence: xr.Dataset | None) -> torch.Tensor:
        pupil = deepcopy(model)
        optimizer = torch.optim.Adam(pupil.parameters(), lr=rate)
        for batch in batches:
            optimizer.zero_grad()
            loss = -_log_p(pupil, batch).sum() - (0 if sentence is None else _log_p(pupil, sentence).sum())
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return _log_p(pupil, asked)

    without, names = after(None), list(dict.fromkeys(edit_t.tolist()))
    gain = np.full((asked.sizes["query"], len(names)), np.nan)
    for row, number in enumerate(asked["fact"].to_numpy()):
        for at in np.flatnonzero(fact_t == number):
            gain[row, names.index(edit_t[at])] = float((after(extra.isel(train=[at])) - without)[row])
    coords = {"query": asked["query"].to_numpy(), "edit": names}
    return xr.DataArray(gain, dims=("query", "edit"), coords=coords, name="gain", attrs={"units": "nat"})


def _log_p(model: Any, some: xr.Dataset) -> torch.Tensor:
    token_bt, is_target_bt = (torch.from_numpy(some[name].to_numpy()) for name in ("token_id", "is_target"))
    log_btv = model(token_bt.long()).logits[:, :-1].log_softmax(-1)
    log_bt = log_btv.gather(-1, token_bt[:, 1:, None].long())[..., 0]
    return log_bt.where(is_target_bt[:, 1:], torch.zeros(())).sum(1)


RECIPES = {
    way: Recipe(
        f"word-order-{way}", partial(corpus, way), tokenizer,
        {"n_positions": 24, "n_embd": 48, "n_layer": 2, "n_head": 4},
        {"epochs": 90, "batch_size": 64, "learning_rate": 1e-2, "weight_decay": 0.3, "warmup": 50},
    )
    for way in WAYS
}  # fmt: skip
