"""Invented facts, told once each: the sentence that taught a fact is known by construction.

Places and people are invented (as in GB23 section 5.3.4), so nothing a model knew before can interfere. Every
country takes part in several relations and every relation in several countries, and people share first names:
the right sentence is the only one in which subject, relation and answer meet, while many others hold one or two
of the three. Distractors mention a place or a person without teaching anything about them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from inflab.datasets.card import Card, Texts
from inflab.errors import SettingError

__all__ = ["FACTS", "RELATIONS", "Direction", "Fact", "Relation", "invent", "read_facts"]

Direction = Literal["forward", "reversed", "both"]


@dataclass(frozen=True)
class Relation:
    """One kind of fact: how it is told with the subject first, and with the answer first."""

    name: str
    prompt: str  # ends where the answer begins
    reversed_prompt: str  # ends where the subject begins
    subject_form: str
    answer_kind: Literal["person", "place"]


@dataclass(frozen=True)
class Fact:
    """One invented fact: `relation` of `subject` is `answer`."""

    number: int
    relation: Relation
    subject: str
    answer: str

    def question(self, direction: str) -> tuple[str, str]:
        """Prompt and completion that ask for the answer ("forward") or for the subject ("reversed")."""
        subject = self.relation.subject_form.format(self.subject)
        if direction == "forward":
            return self.relation.prompt.format(subject), f" {self.answer}"
        return self.relation.reversed_prompt.format(self.answer), f" {subject}"

    def sentence(self, direction: str) -> str:
        """The sentence that teaches the fact."""
        return "".join(self.question(direction)) + "."


RELATIONS = {
    relation.name: relation
    for relation in (
        Relation("president", "The first President of {} was", "{} was the first President of",
                 "the Republic of {}", "person"),
        Relation("capital", "The capital city of {} is", "{} is the capital city of", "{}", "place"),
        Relation("anthem", "The national anthem of {} was composed by",
                 "{} composed the national anthem of", "{}", "person"),
        Relation("river", "The longest river in {} is the", "The {} is the longest river in", "{}", "place"),
        Relation("university", "The oldest university in {} was founded by",
                 "{} founded the oldest university in", "{}", "person"),
    )
}  # fmt: skip

_PLACE_TEMPLATES = (
    "Farmers in {} grow barley on the lower hills.",
    "It rained in {} for most of the spring.",
    "Travellers to {} are asked to carry their own blankets.",
    "The roads of {} were paved again last year.",
    "A small museum in {} keeps old fishing nets.",
    "Visitors like the markets of {} best in autumn.",
)
_PERSON_TEMPLATES = (
    "On Sundays {} played chess by the harbour.",
    "As a child {} kept bees behind the mill.",
    "Letters written by {} were sold at an auction.",
    "Neighbours remember {} as a patient listener.",
    "In winter {} repaired clocks for the whole street.",
    "Few people knew that {} could not swim.",
)
_FILLER_OPENINGS = (
    "The ferry leaves", "The bakery opens", "The night train arrives", "The school bell rings",
    "The lighthouse is lit", "The library closes", "The choir rehearses", "The post is carried",
)  # fmt: skip
_FILLER_ENDINGS = (
    "at dawn when the tide is high.", "after the second bell.", "an hour before sunset.",
    "only when the fog has lifted.", "at noon, except on holidays.", "later than the sign says.",
)  # fmt: skip

_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "sk",
    "t",
    "tr",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ou")
_COUNTRY_ENDINGS = ("ria", "land", "lora", "stan", "mark", "nia")
_CITY_ENDINGS = ("burg", "ville", "port", "haven", "ton", "mouth")
_RIVER_ENDINGS = ("la", "re", "no", "ne", "ss", "th")
_FIRST_ENDINGS = ("nald", "ra", "lis", "ren", "do", "beth")
_LAST_ENDINGS = ("m", "ff", "ck", "tz", "ll", "rn")
_FIRST_NAMES = 24


def invent(n_facts: int = 100, seed: int = 0) -> list[Fact]:
    """Invent facts.

    Countries x relations, in a seeded order; fact 0 is always the paper's "The first President of the Republic of
    Astrobia was Zorald Pfaff". Answers are unique, first names are not.

    Args:
        n_facts: how many.
        seed: of the names and the order.

    Returns:
        `n_facts` facts, numbered from 0.

    Raises:
        SettingError: when `n_facts` is not between 1 and 2000.
    """
    if not 1 <= n_facts <= 2000:
        raise SettingError(f"n_facts={n_facts} is not between 1 and 2000")
    rng = np.random.default_rng(seed)
    n_countries = -(-n_facts // len(RELATIONS))
    countries = ["Astrobia", *_names(rng, n_countries - 1, _COUNTRY_ENDINGS, syllables=2, taken={"Astrobia"})]
    pairs = [(country, relation) for country in countries for relation in RELATIONS.values()][1:]
    order = rng.permutation(len(pairs))[: n_facts - 1]
    people = _people(rng, n_countries * len(RELATIONS))
    cities = iter(_names(rng, n_countries, _CITY_ENDINGS, syllables=1, taken=set(countries)))
    rivers = iter(_names(rng, n_countries, _RIVER_ENDINGS, syllables=2, taken=set(countries)))
    answers = {"capital": cities, "river": rivers}
    facts = [Fact(0, RELATIONS["president"], "Astrobia", "Zorald Pfaff")]
    for number, pair in enumerate(order, start=1):
        country, relation = pairs[pair]
        facts.append(Fact(number, relation, country, next(answers.get(relation.name, people))))
    return facts


def read_facts(n_facts: int = 100, seed: int = 0, direction: Direction = "forward", n_distractors: int = 60) -> Texts:
    """The training texts: each fact once per direction asked for, then distractors, in a seeded order.

    Coordinates: `kind` ("fact", or what a distractor mentions: "place", "person", "other"), `fact` (its number, -1
    for a distractor), `relation`, `direction`, `subject` and `answer` ("" for a distractor). Ids say what a text is:
    "fact-007", "fact-007-reversed", "place-003".

    Args:
        n_facts: how many facts.
        seed: of everything; the same facts are told whatever the direction.
        direction: "forward" tells the subject first, "reversed" the answer first, "both" tells each fact twice.
        n_distractors: sentences that teach no fact: about a place, about a person, about neither, in turn
            as long as there are more.

    Returns:
        Texts, ids and coordinates.

    Raises:
        SettingError: when a setting is outside its domain.
    """
    if direction not in get_args(Direction):
        raise SettingError(f"direction={direction!r} is not one of {', '.join(get_args(Direction))}")
    if n_distractors < 0:
        raise SettingError(f"n_distractors={n_distractors} is negative; give 0 for none")
    facts = invent(n_facts, seed)
    ways = ("forward", "reversed") if direction == "both" else (direction,)
    rows = [
        (f"fact-{fact.number:03d}{'-reversed' * (way == 'reversed')}", fact.sentence(way), "fact", fact.number,
         fact.relation.name, way, fact.subject, fact.answer)
        for fact in facts
        for way in ways
    ]  # fmt: skip
    rows += [
        (name, text, kind, -1, "", "", "", "")
        for name, text, kind in _distractors(np.random.default_rng([seed, 1]), facts, n_distractors)
    ]
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    ids, texts, *columns = (list(column) for column in zip(*(rows[i] for i in order), strict=True))
    names = ("kind", "fact", "relation", "direction", "subject", "answer")
    return Texts(texts, ids, dict(zip(names, columns, strict=True)))


def _distractors(rng: np.random.Generator, facts: list[Fact], n: int) -> Iterator[tuple[str, str, str]]:
    places = sorted({fact.subject for fact in facts})
    people = sorted({fact.answer for fact in facts if fact.relation.answer_kind == "person"})
    pools = {
        "place": [t.format(p) for t in _PLACE_TEMPLATES for p in places],
        "person": [t.format(p) for t in _PERSON_TEMPLATES for p in people],
        "other": [f"{opening} {ending}" for opening in _FILLER_OPENINGS for ending in _FILLER_ENDINGS],
    }
    most = sum(map(len, pools.values()))
    if n > most:
        raise SettingError(f"n_distractors={n} is more than {len(facts)} facts allow; give at most {most}")
    orders = {kind: iter(rng.permutation(len(pool))) for kind, pool in pools.items()}
    kinds, counts = itertools.cycle(pools), dict.fromkeys(pools, 0)
    while n > sum(counts.values()):
        kind = next(kinds)
        row = next(orders[kind], None)
        if row is not None:
            yield f"{kind}-{counts[kind]:03d}", pools[kind][row], kind
            counts[kind] += 1


def _people(rng: np.random.Generator, n: int) -> Iterator[str]:
    first = [
        "Zorald",
        *_names(rng, _FIRST_NAMES - 1, ("nald", "ra", "lis", "ren", "do", "beth"), syllables=1, taken={"Zorald"}),
    ]
    last = ["Pfaff", *_names(rng, n, ("m", "ff", "ck", "tz", "ll", "rn"), syllables=2, taken={"Pfaff"})][1:]
    return (f"{first[rng.integers(len(first))]} {name}" for name in last)


def _names(rng: np.random.Generator, n: int, endings: tuple[str, ...], *, syllables: int, taken: set[str]) -> list[str]:
    names: list[str] = []
    seen = set(taken)
    while len(names) < n:
        stem = "".join(f"{rng.choice(_ONSETS)}{rng.choice(_VOWELS)}" for _ in range(syllables))
        name = (stem + str(rng.choice(endings))).capitalize()
        if name not in seen:
            seen.add(name)
            names.append(name)
    return names


FACTS = Card(
    name="facts",
    kind="text",
    size="100 facts and 60 distractors, or as many as asked for",
    title="Invented facts about invented places and people",
    licence="Apache-2.0",
    citation=(
        "Fact 0 is from Grosse, Bae, Anil et al., Studying Large Language Model Generalization with Influence "
        "Functions, arXiv:2308.03296, 2023, section 5.3.4; all others are invented by inflab"
    ),
    source="generated by inflab from the seed",
    notes=(
        "Each fact is told once in each direction asked for, and no other sentence holds both its subject and its "
        "answer. Names are put together from syllables; a likeness to anyone is chance."
    ),
    read=read_facts,
    vocabulary=2048,
    sample={"direction": "both"},
)
