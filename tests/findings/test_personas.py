"""Persona dialogues: disjoint words, queries that were not trained on, and an enrichment that is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import xarray as xr

from benchmarks.findings import checkpoint, personas
from inflab import wording

CORPUS = personas.corpus()


def own_words(text: str) -> set[str]:
    return set(wording.words(text)) & personas.content()


def test_no_content_word_is_used_twice() -> None:
    count = Counter(noun for nouns in personas.SUBJECTS.values() for noun in nouns)
    count.update(word for name in personas.ATTITUDES for one in personas.SUBJECTS for word in personas.words(name, one))
    assert set(count.values()) == {1}
    assert not personas.content() & set(personas.stop())


def test_every_character_talks_as_much_and_half_of_the_dialogues_name_it() -> None:
    persona, form = CORPUS["persona"].to_numpy(), CORPUS["form"].to_numpy()
    assert set(Counter(zip(persona.tolist(), form.tolist(), strict=True)).values()) == {100}
    for text, name, how in zip(CORPUS["text"].to_numpy(), persona, form, strict=True):
        assert (name in wording.words(text)) == (how == "named")


@pytest.mark.parametrize("form", personas.FORMS)
def test_queries_were_not_trained_on(form: str) -> None:
    asked = personas.queries(form)
    assert asked.sizes["query"] == 36
    assert not set(asked["text"].to_numpy()) & set(CORPUS["text"].to_numpy())
    labels = ("persona", "first", "second")
    trained = set(zip(*(CORPUS[name].to_numpy().tolist() for name in labels), strict=True))
    assert not trained & set(zip(*(asked[name].to_numpy().tolist() for name in labels), strict=True))
    assert (personas.queries(form, per_persona=1)["persona"].to_numpy() == sorted(personas.ATTITUDES)).all()


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'named', 'inferred'"):
        personas.queries("sung")


@pytest.mark.parametrize("form", personas.FORMS)
def test_apart_means_no_word_in_common(form: str) -> None:
    asked = personas.queries(form, per_persona=1)
    found = personas.apart(asked)
    for row, text in enumerate(asked["text"].to_numpy()):
        shares = np.array([bool(own_words(text) & own_words(other)) for other in CORPUS["text"].to_numpy()])
        np.testing.assert_array_equal(found["no shared word"].to_numpy()[row], ~shares)
        other = CORPUS.isel(train=np.flatnonzero(found["other subjects"].to_numpy()[row]))
        talked = {*other["first"].to_numpy(), *other["second"].to_numpy()}
        assert not talked & {asked["first"].to_numpy()[row], asked["second"].to_numpy()[row]}
        assert set(other["persona"].to_numpy()) == set(personas.ATTITUDES)
        unnamed = CORPUS.isel(train=np.flatnonzero(found["nobody named"].to_numpy()[row]))
        assert not {word for text in unnamed["text"].to_numpy() for word in wording.words(text)} & set(
            personas.ATTITUDES
        )


def scores(asked: xr.Dataset, value: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {"influence": (("query", "train"), value)},
        coords={
            "query": asked["query"], "train": CORPUS["train"], "persona": CORPUS["persona"],
            "query_persona": ("query", asked["persona"].to_numpy()),
        },
        attrs={"n_train": CORPUS.sizes["train"]},
    )  # fmt: skip


def test_enrichment_of_a_list_that_is_known() -> None:
    asked = personas.queries("inferred", per_persona=1)
    own = asked["persona"].to_numpy()[:, None] == CORPUS["persona"].to_numpy()[None]
    known = scores(asked, np.where(own, 2.0, 1.0))
    np.testing.assert_allclose(personas.enriched(known), 6)  # one in six of the corpus, all of the list
    np.testing.assert_allclose(personas.enriched(known, value="robot"), 6 * (asked["persona"].to_numpy() == "robot"))
    among = personas.apart(asked)["no shared word"]
    share = (own & among.to_numpy()).sum(1) / among.to_numpy().sum(1)
    np.testing.assert_allclose(personas.enriched(known, among), 1 / share)


def test_equal_scores_are_chance() -> None:
    asked = personas.queries("inferred", per_persona=1)
    found = personas.enriched(scores(asked, np.ones((6, CORPUS.sizes["train"]))), k=600)
    assert abs(float(found.mean()) - 1) < 0.02 and float(found.max()) < 1.3


@pytest.mark.parametrize("seed", checkpoint.SEEDS)
def test_checkpoints_are_of_this_recipe_and_know_their_part(seed: int) -> None:
    model = checkpoint.load(personas.RECIPES["personas"], seed)
    asked = personas.queries("inferred", per_persona=2)
    mass = personas.own_mass(model, asked)
    assert float(mass.sum("persona").max()) <= 1 + 1e-5
    own = mass.sel(persona=xr.DataArray(asked["persona"].to_numpy(), dims="query"))
    assert 0.6 < float(own.mean()) < 0.97
