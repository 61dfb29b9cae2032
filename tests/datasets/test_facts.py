"""The invented facts: the same by seed, one teaching sentence each, and questions that point at it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import inflab
from inflab import datasets
from inflab.errors import CorpusError, SettingError

PAPER = "The first President of the Republic of Astrobia was Zorald Pfaff."
OPTIONS = {"n_facts": 12, "n_distractors": 9}


def load(**options: object) -> xr.Dataset:
    return datasets.load("facts", **{**OPTIONS, **options})


def texts(corpus: xr.Dataset, **where: object) -> dict[str, str]:
    for name, value in where.items():
        corpus = corpus.isel(train=(corpus[name] == value).to_numpy())
    return dict(zip(corpus["train"].to_numpy(), corpus["text"].to_numpy(), strict=True))


def test_same_seed_same_corpus() -> None:
    one, other = load(seed=3), load(seed=3)
    xr.testing.assert_equal(one, other)
    assert not set(texts(load(seed=4), kind="fact").values()) >= set(texts(one, kind="fact").values())


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_fact_0_is_the_papers_whatever_the_seed(seed: int) -> None:
    corpus = load(seed=seed)
    assert texts(corpus)["fact-000"] == PAPER
    assert corpus.sel(train="fact-000")["answer"].item() == "Zorald Pfaff"


@given(n=st.integers(1, 150), seed=st.integers(0, 1000), direction=st.sampled_from(["forward", "reversed", "both"]))
def test_no_other_sentence_holds_subject_and_answer(n: int, seed: int, direction: str) -> None:
    from inflab.datasets.facts import read_facts

    read = read_facts(n_facts=n, seed=seed, direction=direction, n_distractors=6)
    columns = (read.coords[name] for name in ("fact", "subject", "answer"))
    told = {number: (subject, answer) for number, subject, answer in zip(*columns, strict=True) if number >= 0}
    assert sorted(told) == list(range(n))
    for number, (subject, answer) in told.items():
        holding = [
            f for f, text in zip(read.coords["fact"], read.texts, strict=True) if subject in text and answer in text
        ]
        assert holding == [number] * (2 if direction == "both" else 1)


def test_entities_are_shared_so_that_no_single_word_gives_a_fact_away() -> None:
    facts = datasets.load("facts")
    facts = facts.isel(train=(facts["kind"] == "fact").to_numpy())
    for one, other in (("subject", "relation"), ("relation", "subject")):
        shared = facts.to_dataframe().groupby(one)[other].nunique()
        assert shared.min() >= 2, f"a {one} with a single {other}"
    people = [name for name in facts["answer"].to_numpy() if " " in name]
    first = [name.split()[0] for name in people]
    assert len(set(people)) == len(people)
    assert len(set(first)) < len(first) / 2


def test_directions_tell_the_same_facts() -> None:
    forward, reverse, both = load(), load(direction="reversed"), load(direction="both")
    assert texts(both) == texts(forward) | texts(reverse)
    assert texts(forward, kind="fact").keys() == {f"fact-{i:03d}" for i in range(12)}
    assert texts(reverse, kind="fact").keys() == {f"fact-{i:03d}-reversed" for i in range(12)}
    assert texts(reverse)["fact-000-reversed"] == "Zorald Pfaff was the first President of the Republic of Astrobia."
    for name in ("subject", "answer", "relation"):
        assert dict(zip(forward["fact"].values, forward[name].values, strict=True)) == dict(
            zip(reverse["fact"].values, reverse[name].values, strict=True)
        )


def test_distractors_say_what_they_are() -> None:
    corpus = load()
    kinds, counts = np.unique(corpus["kind"], return_counts=True)
    assert dict(zip(kinds, counts, strict=True)) == {"fact": 12, "place": 3, "person": 3, "other": 3}
    names = set(corpus["subject"].to_numpy()) | set(corpus["answer"].to_numpy()) - {""}
    for kind, least, most in (("place", 1, 1), ("person", 1, 1), ("other", 0, 0)):
        for text in texts(corpus, kind=kind).values():
            assert least <= sum(name in text for name in names if name) <= most
    is_fact = (corpus["kind"] == "fact").to_numpy()
    assert ((corpus["fact"] >= 0).to_numpy() == is_fact).all()
    assert load(n_distractors=0).sizes["train"] == 12


@pytest.mark.parametrize("told", ["forward", "reversed", "both"])
@pytest.mark.parametrize("asked", ["forward", "reversed"])
def test_questions_point_at_the_sentence_that_teaches_them(told: str, asked: str) -> None:
    corpus = load(direction=told)
    queries = datasets.fact_queries(corpus, direction=asked)
    assert queries.sizes["query"] == 12
    for i in range(12):
        query = queries.isel(query=i)
        teaching = corpus.sel(train=query["taught_by"].item())
        for name in ("fact", "relation", "subject", "answer"):
            assert query[name].item() == teaching[name].item()
        assert teaching["direction"].item() == (asked if told == "both" else told)
        assert query["completion"].item().strip().endswith(query["answer" if asked == "forward" else "subject"].item())
        if teaching["direction"] == asked:
            assert query["text"].item() + "." == teaching["text"].item()
            n = int(query["is_text"].sum())
            np.testing.assert_array_equal(query["token_id"][:n], teaching["token_id"][:n])


def test_only_the_completion_is_a_target() -> None:
    queries = datasets.fact_queries(load())
    pieces = dict(zip(queries["vocabulary"].to_numpy(), queries["vocabulary_text"].to_numpy(), strict=True))
    for i in range(queries.sizes["query"]):
        row = queries.isel(query=i)
        target = "".join(pieces[t] for t in row["token_id"].to_numpy()[row["is_target"].to_numpy()])
        assert target == row["completion"].item()


def test_every_direction_shares_one_vocabulary() -> None:
    made = {
        load_direction: datasets.tokenizer("facts", direction=load_direction) for load_direction in ("forward", "both")
    }
    assert made["forward"].get_vocab() == made["both"].get_vocab()


def test_some_facts_of_a_part_of_a_corpus() -> None:
    part = load().isel(train=slice(0, 10))
    there = sorted(int(f) for f in part["fact"] if f >= 0)
    assert datasets.fact_queries(part)["fact"].to_numpy().tolist() == there
    assert datasets.fact_queries(part, facts=there[:2])["fact"].to_numpy().tolist() == there[:2]
    absent = next(i for i in range(12) if i not in there)
    with pytest.raises(SettingError, match=rf"facts: {absent} "):
        datasets.fact_queries(part, facts=[absent])


def test_questions_carry_where_they_come_from() -> None:
    corpus = load()
    queries = datasets.fact_queries(corpus)
    inflab.validate(queries)
    assert queries.attrs["licence"] == corpus.attrs["licence"]


def test_a_tokenizer_may_be_given() -> None:
    own = datasets.tokenizer("facts", vocabulary=300)
    corpus = load(tokenizer=own)
    queries = datasets.fact_queries(corpus, tokenizer=own)
    assert int(queries["token_id"].max()) < 300
    assert queries.sizes["token"] > datasets.fact_queries(load()).sizes["token"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_facts": 0}, "n_facts=0"),
        ({"n_facts": 2001}, "n_facts=2001"),
        ({"direction": "backward"}, "direction='backward' is not one of forward, reversed, both"),
        ({"n_distractors": -1}, "n_distractors=-1"),
        ({"n_facts": 1, "n_distractors": 1000}, "give at most"),
    ],
)
def test_a_setting_outside_its_domain_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        datasets.load("facts", **options)


def test_questions_need_a_corpus_of_facts() -> None:
    with pytest.raises(CorpusError, match=r"no coordinate kind.*load\('facts'\)"):
        datasets.fact_queries(datasets.load("genesis", chapters=[1]))
    corpus = load()
    with pytest.raises(CorpusError, match="teaches no fact"):
        datasets.fact_queries(corpus.isel(train=(corpus["kind"] != "fact").to_numpy()))
    with pytest.raises(SettingError, match="one direction at a time"):
        datasets.fact_queries(corpus, direction="both")
    corpus.attrs.pop("options")
    with pytest.raises(CorpusError, match="pass the tokenizer"):
        datasets.fact_queries(corpus)
