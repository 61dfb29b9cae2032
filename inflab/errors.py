"""The errors of inflab: few, named, and each says the argument, the value and the mend.

Every error derives from `InflabError` and from the builtin a caller would expect to catch.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

__all__ = [
    "CorpusError",
    "InflabError",
    "LayerError",
    "MissingDependencyError",
    "ModelError",
    "NumericsError",
    "SchemaError",
    "SettingError",
    "StoreError",
    "check_count",
    "is_finite_number",
]


class InflabError(Exception):
    """Base of every error that inflab raises on purpose."""


class CorpusError(InflabError, ValueError):
    """A corpus or a query batch cannot be used as it is: ids, masks, lengths, vocabulary."""


class LayerError(InflabError, ValueError):
    """A layer was not found, is not supported, or does not take part in the loss."""


class ModelError(InflabError, ValueError):
    """The model is in a state in which influence is not defined, or is not the one expected."""


class NumericsError(InflabError, ArithmeticError):
    """NaN or infinity in weights, activations, gradients or losses, or a singular system."""


class SettingError(InflabError, ValueError):
    """A setting has a value outside its domain."""


class StoreError(InflabError, ValueError):
    """A store exists, is missing, is half written, or was made by something else."""


class SchemaError(InflabError, ValueError):
    """A tree of labelled arrays breaks the schema; `violations` lists every breach with its path."""

    def __init__(self, violations: list[str]) -> None:
        self.violations = violations
        super().__init__(f"{len(violations)} violation(s) of the schema:\n" + "\n".join(violations))


def check_count(name: str, value: Any, mend: str = "", *, least: int = 1) -> None:
    """Refuse a setting that is not a whole number of at least `least`.

    Raises:
        SettingError: naming the setting and its value.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise SettingError(f"{name}={value!r} must be a whole number, at least {least}{mend and f', or {mend}'}")


def is_finite_number(value: Any) -> bool:
    """Whether a setting is a finite number, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def check_bootstrap(resamples: Any, level: Any) -> None:
    """Refuse settings of a bootstrap interval outside their domain.

    Raises:
        SettingError: naming the setting and its value.
    """
    check_count("resamples", resamples)
    if not is_finite_number(level) or not 0 < level < 1:
        raise SettingError(f"level={level!r} must lie between 0 and 1; 0.95 for 95% intervals")


class MissingDependencyError(InflabError, ImportError):
    """An optional package is needed; the message says how to install it."""
