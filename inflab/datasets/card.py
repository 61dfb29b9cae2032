"""What is known of a data set before it is read: its name, where it comes from, on which terms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from inflab.errors import SettingError

__all__ = ["Card", "Table", "Texts", "check_options", "choose", "read_data"]


@dataclass(frozen=True)
class Texts:
    """Texts with ids and one value each for every coordinate."""

    texts: list[str]
    ids: list[str]
    coords: dict[str, list[Any]]


@dataclass(frozen=True)
class Table:
    """Rows of numbers with what they should predict; `input` is `(n, feature)` or `(n, channel, height, width)`."""

    input: np.ndarray
    target: np.ndarray
    features: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """A data set: what to say of it, and the function that reads it.

    Args:
        name: what `inflab.datasets.load` calls it.
        kind: "text", "regression" or "classification".
        size: how many examples, in words.
        title: its full name.
        licence: terms of use.
        citation: what to cite.
        source: where the bundled copy comes from.
        notes: what a user should know and could not guess.
        read: makes the texts or the table; its keyword arguments are the data set's options.
        vocabulary: size of the default tokenizer (text only).
        sample: options that the tokenizer's training texts take instead of the caller's, so that every part of a
            data set shares one vocabulary (text only).
    """

    name: str
    kind: Literal["text", "regression", "classification"]
    size: str
    title: str
    licence: str
    citation: str
    source: str
    notes: str
    read: Callable[..., Any]
    vocabulary: int = 0
    sample: dict[str, Any] = field(default_factory=dict)

    def attrs(self) -> dict[str, str]:
        """What travels with the corpus."""
        said = ("title", "licence", "citation", "source", "notes")
        return {"dataset": self.name, **{key: getattr(self, key) for key in said}}


def check_options(card: Card, options: dict[str, Any]) -> None:
    """Refuse options that the data set does not have.

    Raises:
        SettingError: naming those it has.
    """
    known = list(inspect.signature(card.read).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise SettingError(f"data set {card.name!r} has no option {', '.join(unknown)}; {has}")


def choose(name: str, wanted: Sequence[Any] | None, there: Sequence[Any]) -> list[Any]:
    """Check the values of an option that narrows a data set.

    Returns:
        The values asked for, in the data set's order; all of them for None.

    Raises:
        SettingError: for a value that is not there, or no value at all.
    """
    if wanted is None:
        return list(there)
    unknown = [value for value in wanted if value not in there]
    if unknown or isinstance(wanted, str):
        shown = repr(wanted) if isinstance(wanted, str) else ", ".join(map(repr, unknown))
        raise SettingError(f"{name}: {shown} is not a list of values among {', '.join(map(str, there))}")
    if not wanted:
        raise SettingError(f"{name} is empty; give at least one of {', '.join(map(str, there))}, or None for all")
    return [value for value in there if value in wanted]


def read_data(file: str) -> str:
    """The text of a bundled file."""
    return files("inflab.datasets").joinpath("data", file).read_text(encoding="utf-8")
