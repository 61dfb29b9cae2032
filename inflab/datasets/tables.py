"""Tables of numbers for regression and classification: Concrete, and sets that scikit-learn carries."""

from __future__ import annotations

import csv
from functools import partial
from typing import Any

import numpy as np

from inflab.datasets.card import Card, Table, read_data
from inflab.errors import MissingDependencyError

__all__ = ["TABLES"]


def read_concrete() -> Table:
    """1,030 mixtures; `target` is the compressive strength in MPa."""
    header, *rows = csv.reader(read_data("concrete.csv").splitlines())
    values = np.array(rows, dtype=np.float64)
    return Table(values[:, :-1], values[:, -1], header[:-1])


def read_digits(as_image: bool = False) -> Table:
    """1,797 handwritten digits, grey values 0 to 16.

    Args:
        as_image: `input` as `(n, 1, 8, 8)` instead of `(n, 64)`.

    Returns:
        Grey values and the class numbers 0 to 9.
    """
    table = _read_sklearn("digits")
    return Table(table.input.reshape(-1, 1, 8, 8), table.target, [], table.classes) if as_image else table


def _read_sklearn(name: str) -> Table:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependencyError(
            f"data set {name!r} comes with scikit-learn, which is not installed; run: pip install scikit-learn"
        ) from error
    # Diabetes comes scaled unless told otherwise; here scaling is the caller's own, recorded choice.
    options: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    classes = [str(label) for label in bunch.get("target_names", [])]
    target = bunch.target.astype(np.int64 if classes else np.float64)
    return Table(bunch.data.astype(np.float64), target, [str(feature) for feature in bunch.feature_names], classes)


def _with_sklearn(name: str, **said: Any) -> Card:
    read = {"digits": read_digits}.get(name, partial(_read_sklearn, name))
    return Card(name=name, source=f"scikit-learn, sklearn.datasets.load_{name}", read=read, **said)


TABLES = (
    Card(
        name="concrete",
        kind="regression",
        size="1,030 x 8",
        title="Concrete compressive strength",
        licence="CC BY 4.0",
        citation=(
            "I-Cheng Yeh, Modeling of strength of high-performance concrete using artificial neural networks, "
            "Cement and Concrete Research 28(12), 1797-1808, 1998, doi:10.1016/S0008-8846(98)00165-3"
        ),
        source="UCI Machine Learning Repository, through the R package modeldata 1.1.0 (MIT)",
        notes=(
            "Column names were rewritten; values are as they were. Ingredients in kg per cubic metre, age in days, "
            "strength in MPa. Some mixtures occur more than once."
        ),
        read=read_concrete,
    ),
    _with_sklearn(
        "diabetes",
        kind="regression",
        size="442 x 10",
        title="Diabetes progression after one year",
        licence="not stated by its authors; distributed with scikit-learn (BSD-3-Clause)",
        citation="Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, Annals of Statistics 32(2), 2004",
        notes="Raw values, not the scaled columns that scikit-learn gives by default.",
    ),
    _with_sklearn(
        "digits",
        kind="classification",
        size="1,797 x 64",
        title="Optical recognition of handwritten digits (test part)",
        licence="CC BY 4.0 (UCI); distributed with scikit-learn (BSD-3-Clause)",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, doi:10.24432/C50P49",
        notes="Grey values 0 to 16. Some border pixels are 0 in every image.",
    ),
    _with_sklearn(
        "breast_cancer",
        kind="classification",
        size="569 x 30",
        title="Breast cancer Wisconsin (diagnostic)",
        licence="CC BY 4.0 (UCI); distributed with scikit-learn (BSD-3-Clause)",
        citation="Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI, 1995, doi:10.24432/C5DW2B",
        notes="Class 0 is malignant, class 1 benign, as in scikit-learn.",
    ),
    _with_sklearn(
        "wine",
        kind="classification",
        size="178 x 13",
        title="Wine recognition",
        licence="CC BY 4.0 (UCI); distributed with scikit-learn (BSD-3-Clause)",
        citation="Aeberhard and Forina, Wine, UCI, 1992, doi:10.24432/C5PC7J",
        notes="Three cultivars from one region of Italy.",
    ),
)
