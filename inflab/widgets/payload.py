"""What travels to the browser: plain lists, strings and numbers, in the units that people read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from inflab.effects import effect, predicts

__all__ = ["SNIPPET", "UNITS", "clean", "measure", "plain", "sendable", "signed"]

UNITS = "nat per added copy"
SNIPPET = 320  # characters of a sequence in a list; the token view holds the whole of it


def measure(found: xr.Dataset) -> tuple[xr.DataArray, str]:
    """What people read: the effect in nats a copy, or the value itself of a method that predicts no change.

    Args:
        found: holds `influence` or `effect`.

    Returns:
        The values, and their units.
    """
    if "influence" not in found or predicts(found):
        return effect(found)["effect"], UNITS
    value = found["influence"]
    return value, str(value.attrs.get("units", "1"))


def sendable(value: Any) -> Any:
    """What JSON and the browser keep of a value: lists, dicts with text keys, and what `plain` makes of the rest."""
    if isinstance(value, Mapping):
        return {clean(str(key)): sendable(item) for key, item in value.items()}
    if isinstance(value, (xr.DataArray, np.ndarray)):
        return sendable(np.asarray(value).tolist())
    if isinstance(value, (list, tuple)):
        return [sendable(item) for item in value]
    return None if value is None else plain(value)


def plain(value: Any) -> Any:
    """A number, text or truth value that JSON keeps: NaN is None, dates and other things are text."""
    value = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, (bool, int)) else clean(str(value))


def clean(text: str) -> str:
    """Text that UTF-8 can carry: a lone surrogate becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def signed(number: float | None) -> str:
    """Three significant digits, always with a sign, as the front end writes it: +0.120, −4.50×10⁻⁶."""
    if number is None or not math.isfinite(number):
        return "–"
    size = f"{abs(number):#.3g}".rstrip(".") if number else "0"
    if "e" in size:
        digits, exponent = size.split("e")
        size = f"{digits}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return ("−" if number < 0 else "+" if number > 0 else "") + size


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
