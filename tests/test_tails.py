"""A tail is the one it was drawn from, and that another implementation finds; coverage is the sorted cumulative sum."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

import inflab
from inflab import plot, power_law, tail, validate
from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError
from inflab.schema import influence_attrs, root_attrs
from inflab.spectra import spectrum


def _scores(value: Any, units: str = "nat per unit weight") -> xr.Dataset:
    value = np.asarray(value, np.float64)
    attrs = root_attrs(
        "scores", method="EKFAC", settings="{}", model_fingerprint="m", corpus_fingerprint="c",
        n_train=value.shape[1], seed=0,
    )  # fmt: skip
    coords = {"query": [f"q{i}" for i in range(len(value))], "train": np.arange(value.shape[1])}
    described = {**influence_attrs("made up"), "units": units}
    return xr.Dataset({"influence": (("query", "train"), value, described)}, coords=coords, attrs=attrs)


def _pareto(rng: np.random.Generator, alpha: float, n: int, body: int = 0) -> np.ndarray:
    """Draws of density `x^-alpha` from 1 on, and others below 1 that follow no law."""
    return np.concatenate([rng.pareto(alpha - 1, n) + 1, rng.random(body) * 0.999 + 1e-3])


@pytest.mark.parametrize("alpha", [1.6, 2.5, 3.5])
def test_a_known_exponent_is_recovered(alpha: float) -> None:
    rng = np.random.default_rng(1)
    found = tail(_scores([_pareto(rng, alpha, 3000, 3000) * 7 for _ in range(5)]), bootstrap=0)
    assert (abs(found["alpha"] - alpha) < 3 * found["alpha_se"]).all()
    np.testing.assert_allclose(found["alpha_se"], (found["alpha"] - 1) / np.sqrt(found["n_tail"]))
    assert ((found["xmin"] > 6.5) & (found["xmin"] < 20)).all()
    assert found["p"].isnull().all()


@pytest.mark.parametrize("draw", ["law", "body", "lognormal"])
def test_another_implementation_finds_the_same(draw: str) -> None:
    import powerlaw

    rng = np.random.default_rng(2)
    value = {"law": _pareto(rng, 2.2, 800), "body": _pareto(rng, 2.8, 400, 400), "lognormal": rng.lognormal(0, 1, 800)}
    positive = np.sort(value[draw])[::-1]
    ours = power_law.fit(positive, 10, None)
    assert ours is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = powerlaw.Fit(positive, verbose=False, parameter_ranges={"alpha": [1, 100]})
        exponential = theirs.distribution_compare("power_law", "exponential", normalized_ratio=True)
        lognormal = theirs.distribution_compare("power_law", "lognormal", normalized_ratio=True)
    for mine, other in ((ours.alpha, theirs.alpha), (ours.xmin, theirs.xmin), (ours.distance, theirs.D)):
        assert mine == pytest.approx(other, rel=1e-9)
    assert (ours.n_tail, ours.error) == (theirs.n_tail, pytest.approx(theirs.sigma, rel=1e-9))
    tests = [power_law.compare(positive, ours, law) for law in ("exponential", "lognormal")]
    assert [tests[0].ratio, tests[0].p] == pytest.approx(list(map(float, exponential)), rel=1e-3, abs=1e-6)
    if draw == "lognormal":  # near the power law's limit their normalisation loses its digits
        assert [tests[1].ratio, tests[1].p] == pytest.approx(list(map(float, lognormal)), rel=1e-2)
    else:
        assert tests[1].p > 0.1


def test_p_is_uniform_under_the_law_and_small_for_another() -> None:
    rng = np.random.default_rng(3)
    lawful = tail(_scores([_pareto(rng, 2.5, 200, 200) for _ in range(40)]), bootstrap=60)["p"]
    assert 0.25 < float(lawful.mean()) < 0.75
    assert float((lawful <= 0.1).mean()) < 0.3
    assert float(lawful.max()) > 0.7
    other = tail(_scores(rng.exponential(size=(5, 3000))), bootstrap=60, least=300)
    assert (other["p"] <= 0.05).all()
    assert (other["ratio"].sel(law="exponential") < 0).all()


def test_lognormal_likelihood_is_the_maximum() -> None:
    from scipy.optimize import minimize
    from scipy.stats import norm

    tail_n = np.sort(np.exp(np.abs(np.random.default_rng(4).normal(0, 1, 400))))[::-1]
    excess = np.log(tail_n / tail_n[-1])
    ours = power_law._lognormal(tail_n, excess)
    assert ours is not None

    def minus(at: np.ndarray) -> float:
        spread = np.exp(at[1])
        return -float((norm.logpdf(excess, at[0], spread) - norm.logsf(0, at[0], spread) - np.log(tail_n)).sum())

    best = minimize(minus, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 5000})
    assert ours.sum() == pytest.approx(-best.fun, rel=1e-8)


def test_coverage_is_the_sorted_cumulative_sum() -> None:
    rng = np.random.default_rng(5)
    value = rng.standard_t(2, (6, 1500))
    found = tail(_scores(value), bootstrap=0, points=50)
    validate(found)
    for row, one in enumerate(value):
        gain = np.sort(np.clip(one, 0, None))[::-1]
        curve = np.cumsum(gain) / gain.sum()
        count = found["sequences"].to_numpy()
        mine = found.isel(query=row)
        np.testing.assert_allclose(mine["held"], curve[count - 1])
        assert mine["count"].to_numpy().tolist() == [int((curve < goal - 1e-12).sum()) + 1 for goal in (0.25, 0.5, 0.8)]
        assert float(mine["top_percent"]) == pytest.approx(curve[14])
        shown = count <= (one > 0).sum()
        np.testing.assert_array_equal(mine["value"].to_numpy()[shown], gain[count - 1][shown])
        assert mine["value"].isnull().to_numpy().tolist() == (~shown).tolist()
    # Independent queries: another's list is as good as a random order. An exponential query lies on its curve.
    np.testing.assert_allclose(found["held_shuffled"].mean("query"), found["fraction"], atol=0.1)
    even = tail(_scores(rng.exponential(size=(1, 100_000))), bootstrap=0)
    np.testing.assert_allclose(even["held"], even["held_exponential"], atol=0.01)
    assert even["held_shuffled"].isnull().all()
    same = tail(_scores(np.stack([value[0], 3 * value[0]])), bootstrap=0)
    np.testing.assert_allclose(same["held_shuffled"], same["held"])


def test_a_query_gets_the_same_numbers_alone_and_at_any_scale() -> None:
    value = np.random.default_rng(6).standard_t(2, (4, 400))
    whole = tail(_scores(value), bootstrap=20)
    alone = tail(_scores(value).isel(query=[2]), others=_scores(value), bootstrap=20)
    xr.testing.assert_identical(alone.drop_attrs(), whole.isel(query=[2]).drop_attrs())
    effect = inflab.effect(_scores(value))
    scaled = tail(effect, bootstrap=0)
    np.testing.assert_allclose(scaled["alpha"], whole["alpha"])
    np.testing.assert_allclose(scaled["xmin"] * 400, whole["xmin"])
    assert scaled["xmin"].attrs["units"] == "nat"


HOLED = np.where(np.arange(60) == 3, np.nan, 1.0 + np.arange(60))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tail(_scores([HOLED])), NumericsError, "'q0' hold NaN"),
        (lambda: tail(_scores([np.r_[np.ones(9), -np.ones(50)]])), NumericsError, "'q0' has 9 positive"),
        (lambda: tail(_scores([np.ones(60)])), NumericsError, "all equal"),
        (lambda: tail(_scores(np.ones((1, 60)))["influence"]), SchemaError, "DataArray"),
        (lambda: tail(_scores(np.ones((1, 60))), bootstrap=-1), SettingError, "bootstrap=-1"),
        (lambda: tail(_scores(np.ones((1, 60))), thresholds=1.5), SettingError, "thresholds=1.5"),
        (lambda: tail(_scores([1 / HOLED[4:]]), others=_scores([HOLED])), CorpusError, "others"),
        (lambda: plot.tail(tail(_scores([1 + np.arange(60.0)] * 21), bootstrap=0)), SettingError, "21 of query"),
        (lambda: plot.spectrum(_scores(np.ones((1, 60)))), SchemaError, "DataTree"),
        (lambda: spectrum(_factors(), "h.9"), SettingError, "'h.9' has no spectrum"),
    ],
)
def test_wrong_arrays_are_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def _factors(damping: float = 0.01) -> xr.DataTree:
    value = np.geomspace(1, 1e-8, 40 * 50).reshape(40, 50)
    node = xr.Dataset({"eigenvalues": (("gradient_eigen", "activation_eigen"), value)}, attrs={"damping": damping})
    return xr.DataTree.from_dict({"/h.0": node, "/h.1": node * 0.5, "/none": xr.Dataset()})


def test_a_thinned_spectrum_keeps_its_ends_and_the_share_below() -> None:
    found = spectrum(_factors(), "h.0", points=100)
    assert len(found.rank) <= 100
    assert (found.rank[0], found.rank[-1], found.size) == (1, 2000, 2000)
    np.testing.assert_allclose(found.value, np.geomspace(1, 1e-8, 2000)[found.rank - 1])
    assert found.below == pytest.approx(0.75, abs=0.001)


def test_charts_say_what_they_show() -> None:
    scores = _scores(np.random.default_rng(7).standard_t(2, (2, 500)))
    svg = plot.to_svg(plot.tail(tail(scores, bootstrap=0)))
    for words in ("nat per added copy", "power law", "share of positive influence held", "q1"):
        assert words in svg
    assert "lie below lambda" in plot.spectrum(_factors()).to_dict()["description"]
