"""What a filter finds before any gradient is computed, and what low rank keeps (GB23 sections 5.2.2 and 3.2.2).

Two corpora. The first tells facts about people's habits in English and in Spanish, with no word in common. Every fact
is told in English; three of four also in Spanish, and with single words exchanged, from which a model can learn which
words mean the same. A fact that was told in English alone can then be asked in its own words, and in words that no
telling of it holds. The second corpus is the English Genesis, whose verses are long enough for the rank to matter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of

__all__ = [
    "FRAMES", "KINDS", "RECIPES", "RELATIONS", "SUBJECTS", "agreement", "facts", "habits", "habit_queries",
    "habit_words",
    "recall", "sentence", "share_of_bytes", "verse_queries", "verse_tokens", "verses",
]  # fmt: skip

#: How a fact that was told in English alone is asked.
KINDS = ("memorised", "paraphrase")
_SUBJECTS = """baker panadero, farmer granjero, sailor marinero, teacher maestro, doctor médico, king rey,
soldier soldado, hunter cazador, singer cantante, painter pintor, shepherd pastor, carpenter carpintero, tailor sastre,
smith herrero, fisherman pescador, gardener jardinero, judge juez, lawyer abogado, nurse enfermero, cook cocinero,
butcher carnicero, miller molinero, monk monje, pilot piloto, poet poeta, prince príncipe, servant criado,
student alumno, thief ladrón, uncle tío, waiter camarero, widower viudo, wizard mago, writer escritor,
grandfather abuelo, brother hermano, neighbour vecino, messenger mensajero, merchant mercader, guard guardia"""
_OBJECTS = {
    ("eats", "come"): """bread pan, cheese queso, fish pescado, rice arroz, soup sopa, meat carne, honey miel,
        nuts nueces, cake pastel, beans frijoles""",
    ("drinks", "bebe"): """tea té, coffee café, milk leche, wine vino, water agua, beer cerveza, juice zumo,
        cider sidra, cocoa chocolate, broth caldo""",
    ("plays", "toca"): """drum tambor, flute flauta, guitar guitarra, harp arpa, horn cuerno, organ órgano,
        violin violín, trumpet trompeta, bells campanas, lute laúd""",
    ("sells", "vende"): """shoes zapatos, hats sombreros, chairs sillas, candles velas, knives cuchillos,
        books libros, carpets alfombras, ropes cuerdas, clocks relojes, keys llaves""",
    ("fears", "teme"): """dogs perros, wolves lobos, spiders arañas, storms tormentas, snakes serpientes,
        fire fuego, ghosts fantasmas, darkness oscuridad, bears osos, death muerte""",
    ("grows", "cultiva"): """apples manzanas, grapes uvas, roses rosas, wheat trigo, onions cebollas,
        tomatoes tomates, carrots zanahorias, lemons limones, cherries cerezas, garlic ajo""",
}


def _pairs(said: str) -> tuple[tuple[str, str], ...]:
    return tuple((english, spanish) for english, spanish in (pair.split() for pair in said.split(",")))


#: Words in English and in Spanish.
SUBJECTS = _pairs(_SUBJECTS)
RELATIONS = {verb: _pairs(objects) for verb, objects in _OBJECTS.items()}
FRAMES = (
    ("every day the", "cada día el"), ("they say the", "dicen que el"), ("as before the", "como antes el"),
    ("of course the", "por supuesto el"), ("in truth the", "en verdad el"), ("once again the", "otra vez el"),
    ("at home the", "dentro el"), ("people know the", "todos saben el"), ("without doubt the", "sin duda el"),
    ("well the", "pues el"),
)  # fmt: skip
_EXCHANGES = ((True, False), (False, True), (True, True))


@lru_cache(maxsize=1)
def facts() -> tuple[tuple[int, int, int, bool], ...]:
    """Every fact: person, relation, thing, and whether it is told in Spanish as well.

    Each person has one habit of each kind, and four people share each habit.

    Returns:
        Numbers of person, relation and thing, and whether the fact is told in Spanish.
    """
    rng = np.random.default_rng(29)
    found = []
    for relation, objects in enumerate(RELATIONS.values()):
        things = rng.permutation(np.arange(len(SUBJECTS)) % len(objects))
        # Of the four facts that share a thing, one is told in English alone.
        is_both = np.zeros(len(SUBJECTS), bool)
        for thing in range(len(objects)):
            is_both[rng.permutation(np.flatnonzero(things == thing))[1:]] = True
        found += [(s, relation, int(things[s]), bool(is_both[s])) for s in range(len(SUBJECTS))]
    return tuple(found)


def sentence(
    fact: tuple[int, int, int, bool], frame: int, language: int, exchanged: tuple[bool, bool] = (False, False)
) -> tuple[str, str]:
    """A fact in words.

    Args:
        fact: of `facts`.
        frame: which of `FRAMES`.
        language: 0 English, 1 Spanish.
        exchanged: whether the person, and the verb, stand in the other language.

    Returns:
        Prompt and completion.
    """
    person, relation, thing, _ = fact
    verb, objects = list(RELATIONS.items())[relation]
    who = SUBJECTS[person][language ^ exchanged[0]]
    does = verb[language ^ exchanged[1]]
    return f"{FRAMES[frame][language]} {who} {does}", f" {objects[thing][language]}"


@lru_cache(maxsize=1)
def habit_words() -> Any:
    """The tokenizer of the habits: a token is a word with the space before it."""
    return words_of(
        "".join(sentence(fact, frame, language)) for fact in facts() for frame in range(len(FRAMES))
        for language in (0, 1)
    )  # fmt: skip


@lru_cache(maxsize=1)
def habits() -> xr.Dataset:
    """All tellings, with `fact` (number), `language` ("eng", "spa", "mixed") and `is_both` beside each."""
    rng = np.random.default_rng(31)
    rows = []
    for number, fact in enumerate(facts()):
        for frame in range(len(FRAMES)):
            rows.append((f"eng {number}.{frame}", *sentence(fact, frame, 0), number, "eng", fact[3]))
            if fact[3]:
                rows.append((f"spa {number}.{frame}", *sentence(fact, frame, 1), number, "spa", True))
                mixed = sentence(fact, frame, int(rng.integers(2)), _EXCHANGES[rng.integers(len(_EXCHANGES))])
                rows.append((f"mixed {number}.{frame}", *mixed, number, "mixed", True))
    ids, prompts, completions, number, language, is_both = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(
        prompts, habit_words(), completions=completions, ids=ids, fact=number, language=language, is_both=is_both
    )


def habit_queries(kind: str, n: int, *, seed: int = 0) -> xr.Dataset:
    """Facts that were told in English alone, asked.

    Args:
        kind: "memorised", in the words of their tellings; "paraphrase", in Spanish.
        n: how many.
        seed: of the draw; both kinds ask the same facts.

    Returns:
        The queries, with the coordinates `kind` and `fact`.

    Raises:
        ValueError: for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {KINDS}")
    numbers = [number for number, fact in enumerate(facts()) if not fact[3]]
    chosen = [numbers[i] for i in np.random.default_rng([seed, 30]).permutation(len(numbers))[:n]]
    asked = [sentence(facts()[number], i % len(FRAMES), KINDS.index(kind)) for i, number in enumerate(chosen)]
    return inflab.encode(
        [prompt for prompt, _ in asked], habit_words(), completions=[completion for _, completion in asked],
        dim="query", ids=["".join(one) for one in asked], kind=[kind] * len(asked), fact=chosen,
    )  # fmt: skip


def recall(scores: xr.Dataset, candidates: xr.Dataset, sizes: list[int], k: int = 10) -> xr.DataArray:
    """Share of the exact top k that a filter keeps among its first m.

    Args:
        scores: exact, over (query, train).
        candidates: of `inflab.filter_candidates` for the same queries and corpus, or a list of `inflab.top`, at least
            the largest size long.
        sizes: values of m.
        k: length of the exact list; positive influence only.

    Returns:
        `recall (query, candidates)`. A sequence that shares no term with the query is never among the candidates: a
        filter that has no reason to keep it cannot be said to have found it.
    """
    best = inflab.top(scores, k)
    first = candidates["train"].transpose("query", "rank").to_numpy()
    is_there = candidates["is_ranked"].transpose("query", "rank").to_numpy()
    share = np.zeros((best.sizes["query"], len(sizes)))
    for row in range(best.sizes["query"]):
        wanted = set(best["train"].to_numpy()[row][best["is_ranked"].to_numpy()[row]])
        place = {name: i for i, name in enumerate(first[row][is_there[row]])}
        ranks = np.array([place.get(name, np.inf) for name in wanted])
        share[row] = [(ranks < size).mean() for size in sizes]
    return xr.DataArray(
        share, dims=("query", "candidates"), name="recall", coords={"query": scores["query"], "candidates": sizes},
        attrs={"units": "1", "long_name": f"share of the exact top {k} among the first candidates"},
    )  # fmt: skip


def agreement(exact: xr.Dataset, rough: xr.Dataset, k: int = 10) -> xr.Dataset:
    """How near rough scores come to exact ones, over all training sequences.

    Args:
        exact: scores over (query, train).
        rough: of the same queries and sequences.
        k: length of the lists of most positive sequences.

    Returns:
        Over `query`: `pearson`, `spearman`, and `overlap`, the share of the exact list that the rough one holds.
    """
    value_qt, rough_qt = (one["influence"].transpose("query", "train").to_numpy() for one in (exact, rough))
    ranks = (rankdata(value_qt, axis=1), rankdata(rough_qt, axis=1))
    lists = [np.argsort(-one, axis=1, kind="stable")[:, :k] for one in (value_qt, rough_qt)]
    return xr.Dataset(
        {
            "pearson": ("query", _pearson(value_qt, rough_qt)),
            "spearman": ("query", _pearson(*ranks)),
            "overlap": ("query", [len(set(a) & set(b)) / k for a, b in zip(*lists, strict=True)]),
        },
        coords={"query": exact["query"]},
    )


def _pearson(a_qt: np.ndarray, b_qt: np.ndarray) -> np.ndarray:
    a_qt, b_qt = (one - one.mean(axis=1, keepdims=True) for one in (a_qt, b_qt))
    found: np.ndarray = (a_qt * b_qt).sum(axis=1) / np.sqrt((a_qt**2).sum(axis=1) * (b_qt**2).sum(axis=1))
    return found


def share_of_bytes(model: Any, rank: int) -> float:
    """What a query's gradient takes at a rank, as a share of what it takes whole: two thin matrices a layer.

    Args:
        model: of transformers; its MLP matrices count.
        rank: of the truncation.

    Returns:
        The share, 1 at most: a layer whose thin matrices would be larger is kept whole.
    """
    table = inflab.layers(model, "*.mlp.*")
    shapes = [tuple(map(int, shape.split(" x "))) for shape in table.loc[table["covered"], "shape"]]
    return sum(min(rank * (o + i), o * i) for o, i in shapes) / sum(o * i for o, i in shapes)


@lru_cache(maxsize=1)
def verse_tokens() -> Any:
    """Byte-level BPE of the English Genesis, 512 tokens."""
    return inflab.datasets.tokenizer("genesis", vocabulary=512, languages=["eng"])


@lru_cache(maxsize=1)
def verses() -> xr.Dataset:
    """The first forty chapters of Genesis in English, a verse a text."""
    return inflab.datasets.load("genesis", tokenizer=verse_tokens(), languages=["eng"], chapters=range(1, 41))


def verse_queries(n: int) -> xr.Dataset:
    """Long verses of the other ten chapters: the first five words as the prompt, the rest as the completion.

    Args:
        n: how many, the longest first.

    Returns:
        The queries.
    """
    found = inflab.datasets.load("genesis", tokenizer=verse_tokens(), languages=["eng"], chapters=range(41, 51))
    longest = np.argsort(-found["is_text"].sum("token").to_numpy(), kind="stable")[:n]
    texts, ids = (found[name].to_numpy()[longest].tolist() for name in ("text", "train"))
    words = [text.split(" ") for text in texts]
    return inflab.encode(
        [" ".join(one[:5]) for one in words], verse_tokens(), completions=[" " + " ".join(one[5:]) for one in words],
        dim="query", ids=ids,
    )  # fmt: skip


RECIPES = {
    "retrieval-habits": Recipe(
        "retrieval-habits", habits, habit_words,
        {"n_positions": 12, "n_embd": 48, "n_layer": 2, "n_head": 4},
        {"epochs": 10, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.5, "warmup": 100},
    ),
    "retrieval-verses": Recipe(
        "retrieval-verses", verses, verse_tokens,
        {"n_positions": 160, "n_embd": 72, "n_layer": 2, "n_head": 4},
        {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "weight_decay": 0.1, "warmup": 50},
    ),
}  # fmt: skip
