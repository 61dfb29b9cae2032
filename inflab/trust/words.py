"""A report in plain sentences, one a query; reads labelled arrays only.

Texts of queries are untrusted: they are cut, and what cannot be printed is left out.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["STABLE", "PARTLY", "named", "sentences", "stability"]

#: Share of a list that other fits keep, beyond what chance keeps: from here on it is called stable, partly stable.
STABLE, PARTLY = 0.8, 0.5

_LONGEST = 60  # characters of a query's text

_WHY = {
    ("labels",): "when labels are resampled",
    ("half",): "when half the data is dropped",
    ("labels", "half"): "when labels are resampled or half the data is dropped",
}


def named(report: xr.Dataset) -> list[str]:
    """What each query is called: the beginning of its text in quotes, or its id."""
    ids = [f"query {label}" for label in report["query"].to_numpy().tolist()]
    if "query_text" not in report.coords:
        return [_printable(name) for name in ids]
    texts = [_printable(str(text)) for text in report["query_text"].to_numpy().tolist()]
    short = [text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…" for text in texts]
    return [f"'{text}'" if text else _printable(name) for text, name in zip(short, ids, strict=True)]


def stability(kept: float, chance: float) -> str:
    """The word for a share that is kept, of which chance alone would keep a part."""
    beyond = 1.0 if kept >= 1 else 0.0 if chance >= 1 else (kept - chance) / (1 - chance)
    return "stable" if beyond >= STABLE else "partly stable" if beyond >= PARTLY else "shaky"


def sentences(report: xr.Dataset) -> list[str]:
    """One sentence for each query of a report.

    Args:
        report: of `inflab.Influence.trust`; its sentences need not be there yet.

    Returns:
        Sentences in the order of the queries.
    """
    return [_sentence(report.isel(query=row), name) for row, name in enumerate(named(report))]


def _sentence(one: xr.Dataset, name: str) -> str:
    n = int(one["is_ranked"].sum())
    if n == 0:
        return f"No training sequence has a positive score for {name}, so there is no list to trust."
    parts = [_of_fits(one, name, n)]
    if "lexical_overlap" in one and np.isfinite(one["lexical_overlap"]):
        found = round(n * float(one["lexical_overlap"]))
        parts.append(f"BM25 finds {found or 'none'} of {'them' if n > 1 else 'these'}")
    if "predicted" in one and np.isfinite(one["predicted"]):
        parts.append(_of_removal(one, n))
    return "; ".join(parts) + "."


def _of_fits(one: xr.Dataset, name: str, n: int) -> str:
    lists = f"The top {n} of {name} are" if n > 1 else f"The top sequence of {name} is"
    source, is_moved = one["fit_source"].to_numpy(), one["is_moved"].to_numpy()
    tried = [kind for kind in ("labels", "half") if (source == kind).any()]
    moved = tuple(kind for kind in tried if is_moved[source == kind].any())
    if not tried:
        return f"{lists} of unknown stability: the method was fitted once only"
    if not moved:
        why = " or ".join({"labels": "label seeds", "half": "halves of the data"}[kind] for kind in tried)
        return f"{lists} the same in every fit, for {why} change nothing in this method: that says nothing of its truth"
    kept = float(one["stability"])
    word = stability(kept, n / one.attrs["n_train"])
    stay = f"{n * kept:.1f} of {n} stay {_WHY[moved]}"
    still = [kind for kind in tried if kind not in moved]
    if still:
        stay += " (label seeds change nothing here)" if still == ["labels"] else " (halves change nothing here)"
    above, level = int((one["low"] > 0).sum()), f"{one.attrs['level']:.0%}"
    if 2 * above >= n:
        sizes = f"and {f'all {n}' if above == n else f'{above} of {n}'} have a {level} interval above 0"
    else:
        joined = "but" if word == "stable" else "and"
        sizes = f"{joined} their size is uncertain: {above or 'none'} of {n} have a {level} interval above 0"
    return f"{lists} {word}: {stay}, {sizes}"


def _of_removal(one: xr.Dataset, n: int) -> str:
    called = {"log_probability": "log-probability", "margin": "margin", "output": "output"}
    what = called.get(str(one.attrs["measurement"]), "measurement")
    unit = " nat" if one["predicted"].attrs["units"] == "nat" else ""
    predicted = float(one["predicted"])
    is_measured = "measured" in one and np.isfinite(one["measured"])
    text = f"removing {'them' if n > 1 else 'it'} {'was' if is_measured else 'is'} predicted to "
    text += f"{'lower' if predicted < 0 else 'raise'} the {what} by {_number(predicted)}{unit}"
    if "predicted_percent" in one:
        text += f" (to {_share(100 + float(one['predicted_percent']))} of its probability)"
    if not is_measured:
        return text
    measured, error = float(one["measured"]), float(one["measured_se"])
    text += f" and {'lowered' if measured < 0 else 'raised'} it by {_number(measured)}"
    if not np.isfinite(error):
        return f"{text}{unit} in one training, whose error is not known"
    text += f" ± {_number(error)}{unit}"
    return text if measured * predicted > 0 and abs(measured) > 2 * error else f"{text}, which does not confirm it"


def _number(value: float) -> str:
    size = abs(value)
    return f"{size:.1f}" if 1 <= size < 1e5 else f"{size:.2g}"


def _share(percent: float) -> str:
    return "less than 0.1%" if percent < 0.1 else f"{percent:.2g}%" if percent < 10 else f"{percent:.0f}%"


def _printable(text: str) -> str:
    """One line without control characters, also none that turn the direction of text."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
