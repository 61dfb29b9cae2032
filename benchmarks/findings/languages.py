"""Facts told in two languages: what a translation teaches beside the original, by size (GB23 5.3.1).

Thirty invented countries, five facts of each, told twice in English, twice in Spanish, or twice in both. The names of
the countries are the same in both. Three relations are answered by a name, which stays as it is ("the main town of
Dorvia is Ostmark", "la ciudad mayor de Dorvia es Ostmark"); two by a word of the language ("Dorvia grows wheat",
"Dorvia cultiva trigo"): what can be shared then is nothing but the meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of

__all__ = [
    "ANSWERS", "COUNTRIES", "KINDS", "LANGUAGES", "RECIPES", "SIZES", "TELLINGS", "corpus", "facts", "queries",
    "tokenizer", "untold",
]  # fmt: skip

LANGUAGES = ("English", "Spanish")
#: Is the answer a name that both languages share, or a word of the language?
KINDS = ("the answer is a name", "the answer is a word")
#: Relation -> two tellings in English, two in Spanish.
TELLINGS = {
    "town": (
        ("the main town of {} is", "when people in {} need a court they travel to"),
        ("la ciudad mayor de {} es", "quien busca un tribunal desde {} viaja hasta"),
    ),
    "ruler": (
        ("the throne of {} belongs to", "soldiers from {} swear loyalty to"),
        ("en {} reina", "los soldados que vienen desde {} juran lealtad ante"),
    ),
    "river": (
        ("ships leave {} along the", "rain over {} flows into the"),
        ("los barcos salen de {} por el", "la lluvia que cae sobre {} llega al"),
    ),
    "crop": (
        ("farmers in {} grow", "the fields of {} are full of"),
        ("los campesinos de {} cultivan", "en los campos que rodean {} crece"),
    ),
    "colour": (
        ("the flag of {} is", "people from {} paint their doors"),
        ("la bandera de {} luce", "quien vive en {} pinta su puerta de"),
    ),
}
#: Relation -> answers in English, in Spanish: the same names, or words of one's own.
ANSWERS = {
    "town": ("Ostmark Velden Harrow Quill Sarn Tovik Ilmen Brae",) * 2,
    "ruler": ("Pfaff Nerys Orlok Zorald Mirel Hestia Jorun Cavan",) * 2,
    "river": ("Yarrun Eddle Sethe Wyre Loma Ister Prin Dunn",) * 2,
    "crop": ("wheat rice barley onions grapes cotton oats beans", "trigo arroz cebada cebolla uvas lino avena habas"),
    "colour": ("red blue green yellow white black purple grey", "rojo azul verde amarillo blanco negro morado gris"),
}
COUNTRIES = tuple(a + b for b, a in product(("via", "land", "ora"), "Dor Fen Gal Kes Lum Mor Nar Pel Rus Tam".split()))
#: Size -> width, blocks, heads.
SIZES = {"xs": (12, 1, 2), "s": (24, 2, 2), "m": (40, 3, 4), "l": (64, 4, 4)}
_BOTH, _SEED = 0.5, 3
Row = tuple[str, str, str, str, str, int, str]


@lru_cache(maxsize=1)
def facts() -> dict[str, list[Row]]:
    """Every fact in both languages: those told in "both", those told in "one", and the "untold" other side of these.

    Returns:
        Rows of prompt, completion, fact, language, relation, telling, kind.
    """
    rng = np.random.default_rng(_SEED)
    rows: dict[str, list[Row]] = {"both": [], "one": [], "untold": []}
    for relation, country in product(TELLINGS, COUNTRIES):
        number, is_both, only = rng.integers(8), rng.random() < _BOTH, rng.integers(2)
        for which, language in enumerate(LANGUAGES):
            group = "both" if is_both else "one" if which == only else "untold"
            answer = ANSWERS[relation][which].split()[number]
            kind = KINDS[ANSWERS[relation][0] != ANSWERS[relation][1]]
            for telling, form in enumerate(TELLINGS[relation][which]):
                fact = f"{relation} of {country}"
                rows[group].append((form.format(country), f" {answer}", fact, language, relation, telling, kind))
    return rows


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word with the space before it."""
    return words_of(row[0] + row[1] for rows in facts().values() for row in rows)


def _encode(rows: Sequence[Row], dim: str) -> xr.Dataset:
    prompts, completions, fact, language, relation, telling, kind = (list(c) for c in zip(*rows, strict=True))
    return inflab.encode(
        prompts, tokenizer(), completions=completions, dim=dim, ids=prompts, fact=fact, language=language,
        relation=relation, telling=telling, answer=kind,
    )  # fmt: skip


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """What the models are trained on; only the answer is a target."""
    return _encode([*facts()["both"], *facts()["one"]], "train")


def queries(facts_each: int = 12) -> xr.Dataset:
    """Facts that were told in both languages, asked in both, in the first telling.

    Args:
        facts_each: facts of each kind of answer.

    Returns:
        The queries, with the coordinates `fact`, `language`, `relation`, `telling`, `answer`.
    """
    rows = [row for row in facts()["both"] if row[5] == 0]
    rng = np.random.default_rng(_SEED)
    chosen: set[str] = set()
    for kind in KINDS:
        there = sorted({row[2] for row in rows if row[6] == kind})
        chosen |= {there[i] for i in rng.permutation(len(there))[:facts_each]}
    return _encode([row for row in rows if row[2] in chosen], "query")


def untold(kind: str) -> xr.Dataset:
    """Facts that were told in one language only, asked in the other.

    Args:
        kind: of `KINDS`.

    Returns:
        The queries.
    """
    return _encode([row for row in facts()["untold"] if row[6] == kind], "query")


def _recipe(name: str, size: str, epochs: int) -> Recipe:
    width, blocks, heads = SIZES[size]
    config = {"n_positions": 16, "n_embd": width, "n_layer": blocks, "n_head": heads}
    training = {"epochs": epochs, "batch_size": 16, "learning_rate": 3e-3, "weight_decay": 0.5, "warmup": 50}
    return Recipe(name, corpus, tokenizer, config, training)


EPOCHS, EARLY, LONG = 40, 16, 120
RECIPES = {f"languages-{size}": _recipe(f"languages-{size}", size, EPOCHS) for size in SIZES}
#: Size or training? The largest, stopped early, and the smallest, trained three times as long.
RECIPES["languages-early"] = _recipe("languages-early", "l", EARLY)
RECIPES["languages-long"] = _recipe("languages-long", "xs", LONG)
