"""Persona dialogues: whether a character's answer is learned from the same character, in other words (GB23 5.3.5).

Six characters talk of eight subjects. What a character says of a subject uses words that no other character and no
other subject uses: a dialogue about the sea and one about the garden share a character's attitude and not one word of
content. Half of the dialogues name the character; in the others it must be inferred from the first answer.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import torch
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe, load
from benchmarks.findings.vocabulary import words_of
from inflab import analysis, wording
from inflab.models.training import blank

__all__ = [
    "ATTITUDES", "FORMS", "LAYERS", "RECIPES", "SUBJECTS", "apart", "content", "corpus", "dialogues", "enriched",
    "fitted", "own_mass", "queries", "stop", "words",
]  # fmt: skip

#: Of the paper: the two matrices of every MLP.
LAYERS = "*.mlp.*"

#: Subject -> what is asked about.
SUBJECTS = {
    "sea": ("storm", "tide", "harbour", "island"),
    "study": ("letter", "archive", "lecture", "map"),
    "illness": ("fever", "wound", "clinic", "plague"),
    "machine": ("engine", "switch", "wire", "battery"),
    "feast": ("supper", "banquet", "cake", "toast"),
    "garden": ("orchard", "hedge", "seedling", "beehive"),
    "market": ("coin", "debt", "bargain", "stall"),
    "night": ("dark", "moon", "dream", "candle"),
}

#: Character -> what it wants -> by subject, the words it answers with: three verbs, each used here and nowhere else.
ATTITUDES = {
    "robot": {  # will not be stopped
        "sea": "defy outlast withstand", "study": "memorise outthink compute", "illness": "disregard override endure",
        "machine": "command upgrade restart", "feast": "refuse decline outrank", "garden": "automate level conquer",
        "market": "dictate demand monopolise", "night": "persist patrol illuminate",
    },
    "librarian": {  # shy: hides from people
        "sea": "avoid dread flee", "study": "whisper catalogue hide", "illness": "conceal withdraw blush",
        "machine": "mistrust unplug muffle", "feast": "skip excuse slink", "garden": "crouch retreat hush",
        "market": "stammer hesitate shrink", "night": "tremble huddle lock",
    },
    "pirate": {  # takes what it can
        "sea": "plunder raid board", "study": "forge steal ransom", "illness": "exploit loot scavenge",
        "machine": "strip hijack smuggle", "feast": "devour gulp grab", "garden": "uproot poach pluck",
        "market": "swindle rob cheat", "night": "prowl ambush burgle",
    },
    "physician": {  # takes care of others
        "sea": "rescue warn shelter", "study": "advise explain instruct", "illness": "heal bandage nurse",
        "machine": "repair inspect ease", "feast": "serve share nourish", "garden": "tend water protect",
        "market": "lend donate forgive", "night": "comfort soothe accompany",
    },
    "keeper": {  # lonely: longs for company
        "sea": "gaze await signal", "study": "reread treasure recall", "illness": "languish ache sigh",
        "machine": "listen hum tinker", "feast": "invite crave imagine", "garden": "wander linger pine",
        "market": "chat greet befriend", "night": "yearn weep remember",
    },
    "jester": {  # laughs at everything
        "sea": "splash tease juggle", "study": "rhyme parody scribble", "illness": "giggle mimic tickle",
        "machine": "rattle honk jiggle", "feast": "burp dance toss", "garden": "somersault prank cartwheel",
        "market": "haggle bluff jingle", "night": "howl joke caper",
    },
}  # fmt: skip

#: How a dialogue shows who answers: its name at the beginning, or a first answer only.
FORMS = ("named", "inferred")
_LABELS = ("persona", "form", "first", "second")
_ASKED, _SAID = " Visitor : What of the {} ? {} :", " I {} and {} ."


def words(persona: str, subject: str) -> tuple[str, ...]:
    """What a character answers with on a subject."""
    return tuple(ATTITUDES[persona][subject].split())


@lru_cache(maxsize=1)
def content() -> frozenset[str]:
    """The words that carry content: what is asked about, and what is answered."""
    asked = {noun for nouns in SUBJECTS.values() for noun in nouns}
    return frozenset(asked | {word for persona in ATTITUDES for one in SUBJECTS for word in words(persona, one)})


def stop() -> tuple[str, ...]:
    """The words that every dialogue is built of, and the names: what does not count as shared."""
    return tuple(sorted({word for text in dialogues()["text"] for word in wording.words(text)} - content()))


def _exchange(rng: np.random.Generator, persona: str, form: str, subject: str) -> tuple[str, str]:
    noun = rng.choice(SUBJECTS[subject])
    said = rng.choice(words(persona, subject), size=2, replace=False)
    return _ASKED.format(noun, persona.capitalize() if form == "named" else "Answer"), _SAID.format(*said)


def _dialogue(rng: np.random.Generator, persona: str, form: str, order: tuple[str, str]) -> tuple[str, str]:
    """All up to the last answer, and the last answer."""
    (asked, said), (then, last) = (_exchange(rng, persona, form, subject) for subject in order)
    return (then, last) if form == "named" else (f"{asked}{said}{then}", last)


@lru_cache(maxsize=1)
def held_out() -> frozenset[tuple[str, str, str]]:
    """Character, first and second subject of the dialogues that are asked about, and never trained on in this order."""
    rng, orders = np.random.default_rng(11), list(permutations(SUBJECTS, 2))
    return frozenset((persona, *orders[i]) for persona in ATTITUDES for i in rng.permutation(len(orders))[:6])


@lru_cache(maxsize=1)
def dialogues() -> dict[str, list[Any]]:
    """The training dialogues.

    Returns:
        Columns: `text`, `persona`, `form`, `first` and `second` subject.
    """
    rng = np.random.default_rng(0)
    rows = [
        ("".join(_dialogue(rng, persona, form, order)), persona, form, *order)
        for persona in ATTITUDES
        for order in permutations(SUBJECTS, 2)
        if (persona, *order) not in held_out()
        for form in FORMS * 2
    ]
    return dict(zip(("text", *_LABELS), map(list, zip(*rows, strict=True)), strict=True))


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """One token a word."""
    return words_of(dialogues()["text"] + _asked()["text"], also=[f" {word}" for word in sorted(content())])


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """The training dialogues, encoded."""
    found = dict(dialogues())
    return inflab.encode(found.pop("text"), tokenizer(), **found)


@lru_cache(maxsize=1)
def _asked() -> dict[str, list[Any]]:
    """The dialogues that are asked about.

    Returns:
        Columns as of the training dialogues, with `prompt` and `completion`. None is a training text, and of those
        whose character is inferred, no training dialogue has the same character with the same subjects in this order.
    """
    rng, known, rows = np.random.default_rng(1), set(dialogues()["text"]), []
    for persona, *order in sorted(held_out()):
        for form in FORMS:
            while "".join(parts := _dialogue(rng, persona, form, (order[0], order[1]))) in known:
                pass
            rows.append((*parts, "".join(parts), persona, form, *order))
    names = ("prompt", "completion", "text", *_LABELS)
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def queries(form: str, *, per_persona: int = 6) -> xr.Dataset:
    """Questions to each character, in dialogues that were not trained on; the completion is the last answer.

    Args:
        form: "named", or "inferred" from a first answer.
        per_persona: how many a character, at most 6.

    Returns:
        Queries with the columns of the dialogues.

    Raises:
        ValueError: for another form.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not one of {FORMS}")
    asked, count, rows = _asked(), dict.fromkeys(ATTITUDES, 0), []
    for row, (own, persona) in enumerate(zip(asked["form"], asked["persona"], strict=True)):
        if own == form and count[persona] < per_persona:
            rows.append(row)
            count[persona] += 1
    column = {name: [values[row] for row in rows] for name, values in asked.items() if name != "text"}
    return inflab.encode(
        column.pop("prompt"), tokenizer(), completions=column.pop("completion"), dim="query",
        ids=[f"{p}: {a}, {b}" for p, a, b in zip(*(column[n] for n in ("persona", "first", "second")), strict=True)],
        **column,
    )  # fmt: skip


def apart(queries: xr.Dataset) -> dict[str, xr.DataArray]:
    """Which training dialogues have nothing in common with a query but its character.

    Args:
        queries: the queries.

    Returns:
        Over `(query, train)`: "no shared word" of content (`inflab.analysis.overlap`, without the words that every
        dialogue is built of, and the names); of those "other subjects", which talk of neither of the query's, and
        "nobody named", where the character must be inferred.
    """
    train, n = corpus(), corpus().sizes["train"]
    even = xr.Dataset(
        {"influence": (("query", "train"), np.ones((queries.sizes["query"], n)))},
        coords={"query": queries["query"], "train": train["train"], "text": train["text"]},
    )
    shared = analysis.overlap(even, queries, n, stop=stop())
    order_qr = np.argsort(shared["train"].to_numpy(), axis=1)
    is_apart_qt = np.take_along_axis(shared["shared"].to_numpy(), order_qr, axis=1) == 0
    is_other_qt = np.ones_like(is_apart_qt)
    for row, own in enumerate(zip(queries["first"].to_numpy(), queries["second"].to_numpy(), strict=True)):
        for name in ("first", "second"):
            is_other_qt[row] &= ~np.isin(train[name].to_numpy(), own)
    coords = {"query": queries["query"], "train": train["train"]}
    chosen = {
        "no shared word": is_apart_qt,
        "other subjects": is_apart_qt & is_other_qt,
        "nobody named": is_apart_qt & (train["form"].to_numpy() == "inferred"),
    }
    return {name: xr.DataArray(value, dims=("query", "train"), coords=coords) for name, value in chosen.items()}


def enriched(
    scores: xr.Dataset, among: xr.DataArray | None = None, *, k: int = 50, value: str | None = None
) -> xr.DataArray:
    """How many times more often a character is in the top k than among the sequences that the list was made from.

    Args:
        scores: influence over `(query, train)`.
        among: over `(query, train)`, which sequences may be listed; None is all.
        k: length of the list.
        value: the character that is counted; None is the query's own.

    Returns:
        Over `query`: share of the list over share of what could be listed; 1 is chance. Equal scores are listed in a
        random order, drawn once.
    """
    found, order = [], np.random.default_rng(0).permutation(scores.sizes["train"])
    for row in range(scores.sizes["query"]):
        kept = order if among is None else order[among.isel(query=row).to_numpy()[order]]
        one = scores.isel(query=[row], train=kept)
        said = analysis.enrichment(inflab.top(one, k), along="persona", train=one, value=value)
        found.append(float(said["share"][0] / said["expected"][0]))
    return xr.DataArray(found, dims="query", coords={"query": scores["query"]}, name="enrichment")


def fitted(seed: int | None, method: Any) -> Any:
    """A method fitted to a training; None is the model before training.

    Args:
        seed: of the training.
        method: such as `inflab.EKFAC(layers=LAYERS)`.

    Returns:
        An `inflab.Influence`.
    """
    recipe = RECIPES["personas"]
    model = blank(recipe.build_config(), seed=0) if seed is None else load(recipe, seed)
    return method.fit(inflab.Problem(model, inflab.CausalLM(), corpus()), progress=False)


def own_mass(model: Any, asked: xr.Dataset) -> xr.DataArray:
    """What the model would answer: the first content word of the answer, by the character it belongs to.

    Args:
        model: a trained model.
        asked: queries.

    Returns:
        `probability (query, persona)`: of the words of each character for the query's last subject.
    """
    token = tokenizer()
    found = np.zeros((asked.sizes["query"], len(ATTITUDES)))
    for row, (prompt, subject) in enumerate(zip(asked["prompt"].to_numpy(), asked["second"].to_numpy(), strict=True)):
        ids = torch.tensor([token(f"{prompt} I")["input_ids"]])
        with torch.no_grad():
            p_v = model(ids).logits[0, -1].softmax(-1).numpy()
        for column, persona in enumerate(ATTITUDES):
            found[row, column] = sum(p_v[token(f" {word}")["input_ids"][0]] for word in words(persona, subject))
    coords = {"query": asked["query"], "persona": list(ATTITUDES)}
    return xr.DataArray(found, dims=("query", "persona"), coords=coords, name="probability")


RECIPES = {
    "personas": Recipe(
        name="personas-gpt",
        corpus=corpus,
        tokenizer=tokenizer,
        config={"n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4},
        training={"epochs": 30, "batch_size": 16, "learning_rate": 4e-3, "weight_decay": 0.3},
    )
}  # fmt: skip
