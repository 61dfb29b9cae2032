"""What the findings rest on: shipped banks are of today's cases, repeats and tables come out as they should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import inflab
from benchmarks.accuracy import banks, removals, report, responses
from benchmarks.accuracy.cases import TITLES, case
from inflab.corpus import fingerprint

ROOT = Path(__file__).resolve().parent.parent

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


@pytest.mark.parametrize("name", [*banks.BANKS, "concrete-fixed"])
def test_a_shipped_bank_is_of_todays_case(name: str) -> None:
    chosen, bank = case(name.removesuffix("-fixed")), banks.bank_of(name)
    assert bank.attrs["corpus_fingerprint"] == fingerprint(chosen.corpus)
    assert bank.attrs["queries_fingerprint"] == fingerprint(chosen.queries)
    then, now = json.loads(bank.attrs["recipe"]), json.loads(json.dumps(chosen.recipe.settings()))
    # The last digit of a normal number may be another one on another processor; the modules tell the model too.
    assert then | {"model_fingerprint": ""} == now | {"model_fingerprint": ""}
    assert bank.sizes["subset"] >= 100
    assert name.endswith("-fixed") or bank.sizes["seed"] >= 3


def test_a_shipped_agreement_is_of_its_bank() -> None:
    # Identity takes a second: its score, computed now, is the one in the table.
    chosen = case("concrete")
    problem = banks.members(chosen, 1)[0]
    now = inflab.lds(
        {"Identity": inflab.Identity(layers=chosen.layers).fit(problem).score(chosen.queries)},
        banks.bank_of("concrete"), resamples=2,
    )  # fmt: skip
    then = inflab.load(banks.DATA / "agreement-concrete.zarr")
    assert isinstance(then, xr.Dataset)
    # Training on another machine differs by rounding, which the last steps of a training enlarge.
    assert float(then["lds"].sel(estimator="Identity")) == pytest.approx(float(now["lds"][0]), abs=0.1)


def test_a_repeat_measures_and_predicts() -> None:
    setting = responses.Setting(points=4, queries=3, pbrf=(("eps", 1e-5), ("rank", 20)), lissa=(("steps", 20),))
    found = responses.repeat("diabetes", 0, setting)
    assert found["influence"].shape == (6, 3, 4)
    assert bool(found["is_converged"].all()) and bool((found["seconds"] > 0).all())
    r = responses.correlation(found)
    expected = np.corrcoef(found["influence"].sel(estimator="PBRF")[0], found["influence"].sel(estimator="EKFAC")[0])
    one = responses.correlation(found.isel(query=[0])).sel(estimator="EKFAC")
    assert float(one) == pytest.approx(expected[0, 1], abs=1e-6)
    assert bool((abs(r) <= 1).all())


def test_summary_of_repeats() -> None:
    rng = np.random.default_rng(0)
    r = rng.uniform(0.2, 0.3, (2, 10, len(responses.METHODS)))
    r[..., 0] += 0.5  # EK-FAC
    names = {"case": ["concrete", "digits"], "repeat": np.arange(10), "estimator": list(responses.METHODS)}
    found = xr.Dataset(
        {
            "correlation": (("case", "repeat", "estimator"), r),
            "seconds_per_query": (
                ("case", "repeat", "estimator"),
                np.where(np.arange(r.shape[-1]) == 2, 30.0, 2.0) + 0 * r,
            ),
        },
        coords=names,
    )
    said = responses.summary(found)
    assert bool((said["above_dot_interval"] > 0.3).all())
    np.testing.assert_allclose(said["cost_ratio"], 15)
    np.testing.assert_allclose(said["correlation"], np.median(r, axis=1))
    text = report.response_table(found)
    assert all(TITLES[name] in text for name in ("concrete", "digits"))
    assert "15 x" in text


def test_flipped_labels_are_wrong_and_as_many_as_asked() -> None:
    corpus, is_flipped = removals.flipped(share=0.1)
    before = case("digits").corpus["target"].to_numpy()
    np.testing.assert_array_equal(corpus["target"].to_numpy() != before, is_flipped)
    assert is_flipped.sum() == round(0.1 * len(before))


def test_the_readme_says_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    found = {name: inflab.load(banks.DATA / f"agreement-{name}.zarr") for name in banks.BANKS}
    assert report.agreement_table(found) in text
    assert report.response_table(xr.load_dataset(banks.DATA / "responses.nc", engine="scipy")) in text


def test_a_case_can_be_changed() -> None:
    short = replace(case("digits"), recipe=replace(case("digits").recipe, epochs=1))
    assert short.recipe.settings() != case("digits").recipe.settings()
