"""Numbers and names as a reader wants them, the same in HTML and in plain text."""

from __future__ import annotations

import math

__all__ = ["count", "duration", "number", "percent", "share_in_words", "size", "span", "visible"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MOST = 60  # characters of a name that someone else chose


def count(n: float, what: str = "") -> str:
    """A whole number with its noun: "1 layer", "395,136 parameters"."""
    text = f"{int(n):,}"
    return f"{text} {what}{'' if int(n) == 1 else 's'}" if what else text


def number(value: float) -> str:
    """Three significant digits: 0.703, 2.13×10⁻⁶."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "−∞" if value < 0 else "∞"
    text = f"{abs(value):.3g}"
    if "e" in text:
        digits, exponent = text.split("e")
        text = f"{digits}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return f"−{text}" if value < 0 else text


def span(low: float, high: float) -> str:
    """From the smallest to the largest, or the one number both are."""
    first, last = number(low), number(high)
    return first if first == last else f"{first} to {last}"


def percent(share: float) -> str:
    """A share; only the whole is 100%, and only nothing is 0%."""
    if not math.isfinite(share):
        return "–"
    if 0.995 <= share < 1:
        return ">99%"
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def share_in_words(part: float, whole: float, what: str) -> str:
    """A part of a whole, as "395,136 of 748,416 parameters (53%)"."""
    return f"{int(part):,} of {int(whole):,} {what} ({percent(part / whole)})" if whole else f"no {what}"


def size(n_bytes: float) -> str:
    """Bytes in powers of 1000, as a memory budget is written: "8.36 MB"."""
    if not math.isfinite(n_bytes):
        return "–"
    value, units = float(n_bytes), ("bytes", "kB", "MB", "GB", "TB", "PB")
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    return (
        count(value, "byte")
        if not place
        else f"{value:.0f} {units[place]}"
        if value >= 100
        else f"{value:.3g} {units[place]}"
    )


def duration(seconds: float) -> str:
    """A time to wait, to two digits."""
    if not math.isfinite(seconds):
        return "unknown"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else "under 0.1 s" if seconds < 0.1 else f"{seconds:.1f} s"


def visible(text: object, most: int = _MOST) -> str:
    """A name that came with data: on one line, cut when long, and what no screen shows as the replacement character."""
    whole = "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}"
        for sign in str(text)[: most + 1]
    )
    return whole if len(whole) <= most else whole[: most - 1] + "…"
