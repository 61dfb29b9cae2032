"""The trust report: intervals by formula, overlap by counting, sentences that hold the numbers and what is shaky."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import inflab
from inflab import BM25, EKFAC, Diagonal, Identity, Problem, filter_candidates, top
from inflab.errors import SettingError, StoreError
from inflab.trust import fits
from inflab.trust.fits import Moves
from inflab.trust.words import named, sentences, stability
from tests import tiny

LANGUAGE, TABLE = "language", "table"


def report(**settings: Any) -> xr.Dataset:
    return tiny.fitted().trust(tiny.queries(), **{"k": 3, "progress": False, **settings})


def table_report(method: Any = None, **settings: Any) -> xr.Dataset:
    asked = tiny.table(5, "query", seed=4)
    return tiny.fit(tiny.table_problem(), method).trust(asked, **{"k": 3, "progress": False, **settings})


def moves(influence: Any, source: list[str]) -> Moves:
    value = np.asarray(influence, dtype=np.float64).reshape(len(source), 1, -1)
    one = np.ones((len(source), 1))
    return Moves(list(map(str, range(len(source)))), np.array(source), value, one, one, np.ones(len(source), bool))


# --- intervals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_over_label_seeds_the_interval_is_students(level: float) -> None:
    value = [3.0, 5.0, 4.5, 2.0]
    found = moves(value, ["given", *["labels"] * 3])
    low, high = stats.t.interval(level, 3, loc=3.0, scale=np.std(value, ddof=1))
    width = found.width(level).item()
    assert (3 - width, 3 + width) == pytest.approx((low, high))
    assert np.isnan(found.data_spread()).all()


def test_half_samples_give_the_standard_error_of_a_mean() -> None:
    """For a mean the average over all splits is exact: the sample variance over n."""
    value = np.random.default_rng(0).standard_normal(6)
    halves = [list(half) for half in itertools.combinations(range(6), 3) if 0 in half]
    means = [value[rows].mean() for half in halves for rows in (half, np.delete(np.arange(6), half))]
    found = moves([value.mean(), *means], ["given", *["half"] * len(means)])
    assert found.data_spread().item() == pytest.approx(value.std(ddof=1) / np.sqrt(6))
    ends = stats.t.ppf(0.975, len(halves))
    assert found.width(0.95).item() == pytest.approx(ends * value.std(ddof=1) / np.sqrt(6))


def test_the_wider_interval_counts() -> None:
    calm, wild = [1.0, 1.001], [0.0, 2.0]
    for labels, halves in ((calm, wild), (wild, calm)):
        found = moves([1.0, *labels, *halves], ["given", "labels", "labels", "half", "half"])
        over_labels = stats.t.ppf(0.975, 2) * np.std([1.0, *labels], ddof=1)
        over_halves = stats.t.ppf(0.975, 1) * abs(halves[0] - halves[1]) / 2
        assert found.width(0.95).item() == pytest.approx(max(over_labels, over_halves))


# --- the report against fits made here ----------------------------------------------------------------------------


def test_fits_are_those_that_anyone_can_make() -> None:
    found = report(seeds=3, splits=1, seed=7)
    problem, asked = tiny.language_problem(), tiny.queries()
    again = [EKFAC().fit(problem, seed=seed, progress=False).score(asked, progress=False) for seed in (7, 8)]
    order = np.random.default_rng(7).permutation(6)
    for rows in (order[:3], order[3:]):
        half = Problem(problem.model, problem.task, problem.corpus.isel(train=np.sort(rows)))
        fitted = EKFAC().fit(half, progress=False)
        again.append(fitted.score(asked, train=problem.corpus, progress=False))
    given = tiny.scored()
    for number, scores in enumerate([given, *again]):
        for row in range(2):
            ids = found["train"].values[row]
            value = scores["influence"].isel(query=row)
            tiny.agree(found["influence"].values[number, row], value.sel(train=ids), 1e-4)
            listed = set(top(scores, 3)["train"].values[row])
            assert found["overlap"].values[number, row] == pytest.approx(len(listed & set(ids)) / 3)
            expected = stats.spearmanr(value, given["influence"].isel(query=row)).statistic
            assert found["rank_correlation"].values[number, row] == pytest.approx(expected)
    tiny.agree(found["stability"], found["overlap"].values[1:].mean(0), 1e-12)
    tiny.agree(found["agreement"], found["rank_correlation"].values[1:].mean(0), 1e-12)
    assert found["fit_source"].values.tolist() == ["given", "labels", "labels", "half", "half"]


def test_the_own_seed_of_the_fit_is_not_taken_twice() -> None:
    found = report(seeds=3, splits=0, seed=0)
    assert found["fit"].values.tolist() == ["given", "labels of seed 1", "labels of seed 2"]
    assert found["is_moved"].values.tolist() == [False, True, True]


def test_nats_are_those_of_the_whole_corpus() -> None:
    found = report(seeds=2, splits=1)
    for name, of in (("effect", "influence"), ("effect_low", "low"), ("effect_high", "high")):
        tiny.agree(found[name], found[of] / 6, 1e-12)
        assert found[name].attrs["units"] == "nat"
    best = top(tiny.scored(), 3)
    tiny.agree(found["predicted"], -best["effect"].sum("rank"), 1e-6)
    tiny.agree(found["predicted_percent"], 100 * np.expm1(found["predicted"]), 1e-9)
    middle = (found["low"] + found["high"]) / 2
    tiny.agree(middle, found["influence"].isel(fit=0), 1e-9)


def test_the_lexical_baseline_is_bm25() -> None:
    found = report(seeds=1, splits=0)
    corpus, asked = tiny.corpus(), tiny.queries()
    closest = filter_candidates(asked, corpus, 6, progress=False)
    for row in range(2):
        ranked = closest.isel(query=row)
        listed = ranked["train"].values[:3][ranked["is_ranked"].values[:3]]
        assert found["lexical_overlap"].values[row] == pytest.approx(np.isin(found["train"].values[row], listed).mean())
        similarity = dict(zip(ranked["train"].values, np.nan_to_num(ranked["similarity"].values), strict=True))
        by_id = [similarity[label] for label in corpus["train"].values]
        expected = stats.spearmanr(tiny.scored()["influence"].isel(query=row), by_id).statistic
        assert found["lexical_correlation"].values[row] == pytest.approx(expected)
    assert "lexical_overlap" not in report(seeds=1, splits=0, lexical=False)


def test_tables_have_no_lexical_baseline() -> None:
    found = table_report(seeds=1, splits=0)
    assert found["lexical_overlap"].isnull().all()
    assert not any("BM25" in sentence for sentence in found["sentence"].values)


@pytest.mark.parametrize("method", [Identity(), EKFAC(fisher="empirical")], ids=["identity", "empirical"])
def test_label_seeds_change_nothing_where_no_label_is_drawn(method: Any) -> None:
    found = table_report(method, seeds=3, splits=0)
    assert (found["overlap"] == 1).all()
    tiny.agree(found["rank_correlation"], np.ones((3, 5)), 1e-12)
    size = np.abs(found["influence"]).max()
    assert not (found["high"] - found["low"] > 1e-5 * size).any()
    assert not found["is_moved"].any()
    assert all("label seeds change nothing" in sentence for sentence in found["sentence"].values)
    assert not any("stable:" in sentence for sentence in found["sentence"].values)


def test_fits_that_change_nothing_do_not_count_as_agreement() -> None:
    found = table_report(EKFAC(fisher="empirical"), seeds=3, splits=1)
    assert found["is_moved"].values.tolist() == [False, False, False, True, True]
    tiny.agree(found["stability"], found["overlap"].values[3:].mean(0), 1e-12)
    assert all("half the data is dropped (label seeds" in sentence for sentence in found["sentence"].values)


def test_the_order_of_queries_changes_nothing() -> None:
    settings: dict[str, Any] = {"k": 3, "seeds": 2, "splits": 1, "progress": False}
    forth = tiny.fitted().trust(tiny.queries(), **settings)
    back = tiny.fitted().trust(tiny.queries().isel(query=[1, 0]), **settings).isel(query=[1, 0])
    assert back["train"].equals(forth["train"])
    for name in ("influence", "low", "high", "stability", "agreement", "lexical_correlation", "predicted"):
        tiny.agree(back[name], forth[name], 1e-3)


def test_the_model_comes_back_as_it_was_also_when_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = tiny.table_problem()
    influence = tiny.fit(problem)
    asked = tiny.table(2, "query")
    with tiny.untouched(problem.model):
        influence.trust(asked, k=2, seeds=2, splits=1, progress=False)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "spearman", stop)
    with tiny.untouched(problem.model), pytest.raises(KeyboardInterrupt):
        influence.trust(asked, k=2, seeds=2, splits=1, progress=False)


def test_similarities_have_lists_and_no_effects() -> None:
    found = tiny.fit(tiny.language_problem(), BM25()).trust(tiny.queries(), k=3, seeds=2, splits=1, progress=False)
    assert not {"effect", "effect_low", "predicted"} & set(found)
    assert found["low"].attrs["units"] == "1"
    assert not any("nat" in re.sub(r"'.*'", "", sentence) for sentence in found["sentence"].values)


def test_a_margin_is_no_probability() -> None:
    problem = Problem(tiny.mlp(), inflab.Classification("margin"), tiny.table())
    found = tiny.fit(problem, Diagonal()).trust(tiny.table(3, "query", seed=4), k=2, seeds=1, splits=0, progress=False)
    assert "predicted_percent" not in found
    assert found.attrs["measurement"] == "margin"
    assert all("lower the margin by" in sentence for sentence in found["sentence"].values)


# --- words --------------------------------------------------------------------------------------------------------


def made_up(kept: float = 0.93, above: int = 10, n_train: int = 1000, **values: float) -> xr.Dataset:
    """A report of one query with ten ranks, and the given numbers."""
    low = np.where(np.arange(10) < above, 1.0, -1.0)[None]
    data: dict[str, Any] = {
        "is_ranked": (("query", "rank"), np.ones((1, 10), bool)),
        "low": (("query", "rank"), low),
        "is_moved": ("fit", [False, True, True]),
        "stability": ("query", [kept]),
        "lexical_overlap": ("query", [0.2]),
        **{name: ("query", [value]) for name, value in values.items()},
    }
    if "predicted" in data:
        data["predicted"] = (*data["predicted"], {"units": "nat"})
        data["predicted_percent"] = ("query", [100 * np.expm1(values["predicted"])])
    coords = {
        "query": [0],
        "query_text": ("query", ["Who was first?"]),
        "fit_source": ("fit", ["given", "labels", "half"]),
    }
    attrs = {"k": 10, "n_train": n_train, "level": 0.95, "measurement": "log_probability"}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def test_a_sentence_holds_the_numbers() -> None:
    found = sentences(made_up(predicted=-1.9, measured=-1.6, measured_se=0.2))
    assert found == [
        "The top 10 of 'Who was first?' are stable: 9.3 of 10 stay when labels are resampled or half the data is "
        "dropped, and all 10 have a 95% interval above 0; BM25 finds 2 of them; removing them was predicted to lower "
        "the log-probability by 1.9 nat (to 15% of its probability) and lowered it by 1.6 ± 0.2 nat."
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kept": 0.3}, "are shaky: 3.0 of 10 stay"),
        ({"kept": 0.6}, "are partly stable: 6.0 of 10 stay"),
        ({"kept": 0.9, "n_train": 11}, "are shaky: 9.0 of 10"),  # chance alone keeps 10/11
        ({"above": 2}, "dropped, but their size is uncertain: 2 of 10 have a 95% interval above 0"),
        ({"above": 0}, "but their size is uncertain: none of 10"),
        ({"above": 0, "kept": 0.3}, "dropped, and their size is uncertain"),
        ({"predicted": -1.0, "measured": 0.5, "measured_se": 0.1}, "raised it by 0.5 ± 0.1 nat, which does not"),
        ({"predicted": -1.0, "measured": -0.5, "measured_se": 0.3}, "lowered it by 0.5 ± 0.3 nat, which does not"),
        ({"predicted": -1.0, "measured": -0.5, "measured_se": np.nan}, "by 0.5 nat in one training, whose"),
        ({"predicted": -30.0}, "is predicted to lower the log-probability by 30.0 nat (to less than 0.1% of"),
    ],
)  # fmt: skip
def test_what_is_shaky_is_called_so(given: dict[str, Any], says: str) -> None:
    assert says in sentences(made_up(**given))[0]


@pytest.mark.parametrize(
    ("kept", "chance", "word"),
    [
        (1, 0.01, "stable"),
        (0.81, 0.01, "stable"),
        (0.7, 0.5, "shaky"),
        (0.76, 0.5, "partly stable"),
        (1, 1, "stable"),
        (0.9, 1, "shaky"),
    ],
)
def test_chance_is_taken_off(kept: float, chance: float, word: str) -> None:
    assert stability(kept, chance) == word


def test_texts_are_cut_and_cannot_command_a_terminal() -> None:
    hostile = "\x1b[31mred\x1b[0m \u202eesrever\nline " + "x" * 100
    name = named(made_up().assign_coords(query_text=("query", [hostile])))[0]
    assert name.isprintable()
    assert len(name) <= 62
    assert name.startswith("'[31mred [0m esrever line x") and name.endswith("…'")
    assert named(made_up().drop_vars("query_text")) == ["query 0"]
    assert named(made_up().assign_coords(query_text=("query", ["\n"]))) == ["query 0"]


def test_a_list_of_everything_is_reported_too() -> None:
    found = report(k=6, seeds=2, splits=1)
    n_ranked = found["is_ranked"].sum("rank").values
    assert all(f"The top {n} of" in sentence for n, sentence in zip(n_ranked, found["sentence"].values, strict=True))


def test_an_empty_list_is_said_to_be_empty() -> None:
    found = made_up()
    found["is_ranked"] = xr.zeros_like(found["is_ranked"])
    assert sentences(found) == [
        "No training sequence has a positive score for 'Who was first?', so there is no list to trust."
    ]


# --- refusals -----------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no rank": ({"k": 0}, "k=0 must be a whole number"),
    "too many ranks": ({"k": 7}, "k=7 must lie between 1 and the number of training sequences, 6"),
    "no seed": ({"seeds": 0}, "seeds=0 must be a whole number, at least 1, or 1 for the given fit alone"),
    "a bool": ({"splits": True}, "splits=True must be a whole number, at least 0"),
    "a level in percent": ({"level": 95}, "level=95 must be a number between 0 and 1"),
    "no training": ({"trainings": 0}, "trainings=0"),
    "another recipe": ({"recipe": tiny.table_problem()}, "recipe has the task Classification"),
    "no recipe": ({"recipe": "sgd"}, "recipe is a str"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "says"), BAD.values(), ids=BAD)
def test_settings_outside_their_domain_are_refused_before_the_work(settings: Any, says: str) -> None:
    with pytest.raises(SettingError, match=re.escape(says)):
        report(**settings)


def test_without_its_problem_nothing_can_be_asked(tmp_path: Any) -> None:
    tiny.fitted().save(tmp_path / "fit")
    with pytest.raises(StoreError, match="loaded without its problem"):
        inflab.load(tmp_path / "fit").trust(tiny.queries(), progress=False)
