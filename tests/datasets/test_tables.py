"""Tables: the values of their publishers, standardised only when asked, and a clear word without scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from inflab import datasets
from inflab.errors import MissingDependencyError

SHAPES = {
    "concrete": (1030, 8),
    "diabetes": (442, 10),
    "digits": (1797, 64),
    "breast_cancer": (569, 30),
    "wine": (178, 13),
}
REGRESSION = ("concrete", "diabetes")


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_shapes_and_names(name: str, shape: tuple[int, int]) -> None:
    table = datasets.load(name)
    assert table["input"].shape == shape
    assert table["input"].dims == ("train", "feature")
    assert len(set(table["feature"].to_numpy())) == shape[1]
    assert table.attrs["standardized"] == "nothing"
    if name in REGRESSION:
        assert table["target"].dtype == np.float64
        assert "label" not in table.coords
    else:
        assert set(table["target"].to_numpy()) == set(range(len(table.attrs["classes"])))
        assert table["label"].to_numpy().tolist() == [table.attrs["classes"][t] for t in table["target"].to_numpy()]


def test_concrete_has_the_published_values() -> None:
    table = datasets.load("concrete")
    assert table["input"].sel(train=0, feature=["cement", "age"]).to_numpy().tolist() == [540.0, 28.0]
    # Yeh (1998), as tabulated at UCI: strengths between 2.33 and 82.6 MPa, 35.82 on average.
    target = table["target"].to_numpy()
    assert (target.min(), target.max(), round(target.mean(), 2)) == (2.33, 82.6, 35.82)


def test_diabetes_is_raw() -> None:
    age = datasets.load("diabetes")["input"].sel(feature="age").to_numpy()
    assert (age.min(), age.max()) == (19, 79)


@pytest.mark.parametrize("name", SHAPES)
def test_standardized_columns_can_be_undone(name: str) -> None:
    raw, table = datasets.load(name), datasets.load(name, standardize=True)
    values = table["input"].to_numpy()
    varies = raw["input"].std("train").to_numpy() > 0
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(0), varies.astype(float), atol=1e-12)
    np.testing.assert_allclose(table["input"] * table["input_scale"] + table["input_mean"], raw["input"], atol=1e-10)
    back = table["target"]
    if name in REGRESSION:
        np.testing.assert_allclose([back.mean(), back.std()], [0, 1], atol=1e-12)
        back = back * table["target_scale"] + table["target_mean"]
    np.testing.assert_allclose(back, raw["target"], atol=1e-10)
    assert table.attrs["standardized"] == ("input and target" if name in REGRESSION else "input")


def test_constant_pixels_become_zero() -> None:
    raw, table = datasets.load("digits"), datasets.load("digits", standardize=True)
    constant = (raw["input"].std("train") == 0).to_numpy()
    assert constant.any()
    assert (table["input"].to_numpy()[:, constant] == 0).all()


def test_digits_as_images() -> None:
    flat, image = datasets.load("digits"), datasets.load("digits", as_image=True)
    assert image["input"].dims == ("train", "channel", "height", "width")
    np.testing.assert_array_equal(image["input"].to_numpy().reshape(1797, 64), flat["input"])


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match="'wine'.*pip install scikit-learn"):
        datasets.load("wine")
    assert datasets.load("concrete").sizes["train"] == 1030
