"""Cosines and ensembles: what they carry, what they refuse, and what they keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inflab import BM25, EKFAC, KFAC, Cosine, Identity, Problem, ensemble, filter_candidates, load, top, validate
from inflab.errors import CorpusError, InflabError, LayerError, SettingError, StoreError
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def other() -> Any:
    """The same fit on another model."""
    return tiny.fit(tiny.language_problem(tiny.gpt2(1)))


def test_an_ensemble_says_what_it_is_made_of() -> None:
    found = ensemble([tiny.fitted(), other()])
    settings = json.loads(found.attrs["settings"])
    assert settings["align"] == "none"
    assert [member["method"] for member in settings["members"]] == ["EKFAC", "EKFAC"]
    scores = found.score(tiny.queries(), progress=False)
    validate(scores)
    assert scores.attrs["method"] == "ensemble" and scores.attrs["n_train"] == 6
    assert scores["influence"].attrs["units"] == "nat per unit weight"
    assert repr(found).startswith("Influence(ensemble of 2: EKFAC, EKFAC; align=none, n_train=6")
    assert len(found.members) == 2
    validate(found.explain(tiny.queries(), 2, progress=False))


def test_members_of_like_units_may_have_several_methods() -> None:
    kfac = tiny.fit(tiny.language_problem(), KFAC())
    found = ensemble([tiny.fitted(), kfac], align="none").score(tiny.queries(), progress=False)["influence"]
    tiny.agree(found, (tiny.scored()["influence"] + kfac.score(tiny.queries(), progress=False)["influence"]) / 2, 1e-6)


def test_a_baseline_can_be_a_member() -> None:
    words = tiny.fit(tiny.language_problem(), BM25())
    found = ensemble([tiny.fitted(), words], align="std").score(tiny.queries(), progress=False)
    each = [tiny.scored()["influence"], words.score(tiny.queries(), progress=False)["influence"]]
    tiny.agree(found["influence"], sum(s / s.std("train") for s in each) / 2, 1e-5)
    assert found["influence"].attrs["units"] == "1"


def test_candidates_and_ranks_of_members() -> None:
    queries, found = tiny.queries(), ensemble([tiny.fitted(), other()])
    few = filter_candidates(queries, tiny.corpus(), 2, progress=False)
    scores = found.score(queries, candidates=few, progress=False)
    whole = found.score(queries, progress=False)["influence"].sel(train=scores["train"])
    assert np.array_equal(scores["influence"].isnull(), ~scores["is_candidate"])
    tiny.agree(scores["influence"].fillna(0), whole.where(scores["is_candidate"]).fillna(0))
    ranked = found.score(queries, rank=1, progress=False)
    each = [member.score(queries, rank=1, progress=False)["truncation_error"] for member in found.members]
    assert np.array_equal(ranked["truncation_error"], np.maximum(*each))


def test_a_store_of_an_ensemble_goes_on(tmp_path: Path) -> None:
    found = ensemble([tiny.fitted(), other()])
    first = found.score(tiny.queries(), progress=False, store=tmp_path / "s")
    tiny.agree(first["influence"], found.score(tiny.queries(), progress=False)["influence"], 1e-6)
    again = found.score(tiny.queries(), progress=False, store=tmp_path / "s")
    assert again.attrs["shards_computed"] == 0 < again.attrs["shards_resumed"]


def ids(*names: int) -> Any:
    return tiny.fit(tiny.language_problem(train=tiny.corpus(ids=list(names))))


def cosine(problem: Problem | None = None) -> Any:
    return tiny.fit(problem or tiny.language_problem(), Cosine())


BAD: dict[str, tuple[Any, type[InflabError], str]] = {
    "nobody": (lambda: ensemble([]), SettingError, "is empty"),
    "a method": (lambda: ensemble([EKFAC()]), SettingError, "holds a EKFAC"),
    "several methods": (lambda: ensemble([tiny.fitted(), cosine()]), SettingError, "Cosine, EKFAC"),
    "several units": (lambda: ensemble([tiny.fitted(), cosine()], align="none"), SettingError, "align='std'"),
    "unknown align": (lambda: ensemble([tiny.fitted()], align="rank"), SettingError, "align='rank'"),  # type: ignore[arg-type]
    "other ids": (lambda: ensemble([tiny.fitted(), ids(9, 8, 7, 6, 5, 4)]), CorpusError, "member 1"),
    "another order": (lambda: ensemble([tiny.fitted(), ids(1, 0, 2, 3, 4, 5)]), CorpusError, "one order"),
    "a file": (lambda: ensemble([tiny.fitted()]).save("x"), StoreError, "save its members"),
    "a method of it": (lambda: ensemble([tiny.fitted()]).method, SettingError, "members"),
    "an index": (lambda: ensemble([tiny.fitted()]).index("x", size=0.1), SettingError, "ask a member"),
    "index of cosines": (lambda: cosine().index("x", size=0.1), SettingError, "no lengths"),
    "a second look": (lambda: cosine().score(tiny.queries(), rank=1, rescore=1), SettingError, "rescore="),
    "slopes of cosines": (
        lambda: cosine().attribute(tiny.queries(), top(tiny.scored(), 1), view="input"),
        SettingError,
        "length of the",
    ),
    "by block": (lambda: cosine().score(tiny.queries(), by="block", progress=False), SettingError, "block"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()


def test_layers_of_other_names_cannot_be_kept_apart() -> None:
    half = tiny.fit(tiny.language_problem(), EKFAC(layers="*.c_fc"))
    found = ensemble([tiny.fitted(), half])
    assert found.score(tiny.queries(), progress=False)["influence"].dims == ("query", "train")
    chosen = top(tiny.scored(), 1)
    for ask in (
        lambda: found.score(tiny.queries(), by="layer", progress=False),
        lambda: found.self_influence(by="layer", progress=False),
        lambda: found.attribute(tiny.queries(), chosen, progress=False),
    ):
        with pytest.raises(LayerError, match="same names"):
            ask()


def test_cosines_are_kept_and_opened(tmp_path: Path) -> None:
    queries, problem = tiny.queries(), tiny.language_problem()
    with tiny.untouched(problem.model):
        influence = cosine(problem)
        scores = influence.score(queries, progress=False)
    validate(scores)
    assert scores["influence"].attrs["units"] == "1" and "not nats" in scores["influence"].attrs["description"]
    assert float(np.abs(scores["influence"]).max()) < 1
    influence.save(tmp_path / "fit")
    opened: Any = load(tmp_path / "fit", tiny.language_problem())
    assert opened.method == Cosine()
    kept = opened.score(queries, progress=False, store=tmp_path / "s")
    assert np.array_equal(kept["influence"], scores["influence"])
    dot: Any = load(tmp_path / "s" / "products")
    assert dot.attrs["method"] == "Identity"
    expected = tiny.fit(problem, Identity()).score(queries, progress=False)["influence"]
    assert np.array_equal(dot["influence"], expected)


def test_cosines_of_candidates_and_of_other_sequences() -> None:
    queries, influence = tiny.queries(), cosine()
    whole = influence.score(queries, progress=False)["influence"]
    few = filter_candidates(queries, tiny.corpus(), 2, progress=False)
    scores = influence.score(queries, candidates=few, progress=False)
    expected = whole.sel(train=scores["train"]).where(scores["is_candidate"])
    tiny.agree(scores["influence"].fillna(0), expected.fillna(0), 1e-5)
    part = tiny.corpus().isel(train=[4, 1])
    tiny.agree(influence.score(queries, train=part, progress=False)["influence"], whole.isel(train=[4, 1]), 1e-5)
