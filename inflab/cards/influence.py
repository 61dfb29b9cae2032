"""The card of an Influence: method and settings in words, damping, coverage, spectrum, fingerprints, size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

from inflab.cards.page import Card, Fact
from inflab.cards.spectrum import Spectrum, spectrum_of, svg
from inflab.cards.words import count, number, share_in_words, size, span, visible

__all__ = ["influence_card"]

_METHODS = {
    "EKFAC": "Kronecker-factored curvature with corrected eigenvalues",
    "KFAC": "Kronecker-factored curvature",
    "Diagonal": "the diagonal of the curvature",
    "Identity": "dot products of gradients, no curvature",
    "Cosine": "cosines of gradients, no curvature",
    "CG": "solves jointly for all layers by conjugate gradients",
    "LiSSA": "solves jointly for all layers by a Neumann series",
    "ASTRA": "solves jointly for all layers, preconditioned by EK-FAC",
    "SOURCE": "EK-FAC through the segments of a training",
    "TracIn": "dot products of gradients along a training",
    "BM25": "shared words, no gradients",
    "Embedding": "cosines of embeddings, no gradients",
    "ensemble": "the mean of several influences",
}
_FISHER = {"true": "labels drawn from the model", "empirical": "the data's own labels"}
_SAID = {"layers", "damping", "damping_kind", "fisher", "members"}  # in words elsewhere


def influence_card(tree: xr.DataTree, problem: Any = None, parameters: int = 0) -> Card:
    """What a fit holds.

    Args:
        tree: attrs, and the factors of each layer.
        problem: that of the fit, or None when it is not attached.
        parameters: of its model; 0 when there is none.

    Returns:
        Its card.
    """
    attrs = {str(name): value for name, value in tree.attrs.items()}
    settings: dict[str, Any] = json.loads(attrs["settings"])
    nodes = list(tree["factors"].children.values())
    method = str(attrs["method"])
    facts = [_coverage(nodes, settings, parameters)] if nodes else []
    found = spectrum_of(nodes) if nodes else ""
    if nodes:
        facts += _damping(nodes, settings, found)
    facts.append(_data(attrs, nodes, settings))
    members = settings.get("members")
    if members:
        facts.append(Fact("members", "", items=[str(member["method"]) for member in members]))
    told = [f"{name}={visible(value, 40)}" for name, value in settings.items() if _is_worth_saying(name, value)]
    told.append(f"seed={attrs['seed']}")
    facts += [
        Fact("settings", ", ".join(told)),
        Fact("fingerprints", f"model {attrs['model_fingerprint']}, corpus {attrs['corpus_fingerprint']}", is_code=True),
        Fact("", f"corpus {attrs['corpus_fingerprint']}", line=2),
        *_holds(tree, problem is not None),
    ]
    picture = svg(found) if isinstance(found, Spectrum) else ""
    return Card("Influence", method, _METHODS.get(method, ""), facts, picture)


_ATTACHED = "its problem is attached"
_DETACHED = "no problem attached: to ask, inflab.load(path, problem=...)"


def _coverage(nodes: list[xr.DataTree], settings: Mapping[str, Any], parameters: int) -> Fact:
    part = sum(int(node.attrs["parameters"]) for node in nodes)
    chosen = settings.get("layers", "")
    pattern = chosen if isinstance(chosen, str) else "a list" if chosen else ""
    by = f' with layers="{visible(pattern, 40)}"' if isinstance(chosen, str) and chosen else ""
    share = share_in_words(part, parameters, "parameters") if parameters else count(part, "parameter")
    return Fact(
        "covers", f"{share} in {count(len(nodes), 'layer')}{by}", part / parameters if parameters else None, line=1
    )


def _damping(nodes: list[xr.DataTree], settings: Mapping[str, Any], found: Spectrum | str) -> list[Fact]:
    if isinstance(found, str):
        return [Fact("curvature", found, line=1)]
    damping = [float(node.attrs["damping"]) for node in nodes]
    kind = settings.get("damping_kind")
    how = " × each layer's mean eigenvalue" if kind == "relative" else " added to every eigenvalue"
    own = span(min(damping), max(damping))
    return [
        Fact(
            "damping", f"{number(float(settings['damping']))}{how}" + (f": lambda {own}" if kind == "relative" else "")
        ),
        Fact("", f"lambda {own}", line=1),
        Fact("eigenvalues", found.words(), line=1),
    ]


def _data(attrs: Mapping[str, Any], nodes: list[xr.DataTree], settings: Mapping[str, Any]) -> Fact:
    told = count(int(attrs["n_train"]), "training sequence")
    examples, tokens = (max((int(node.attrs[name]) for node in nodes), default=0) for name in ("examples", "tokens"))
    if examples and examples < int(attrs["n_train"]):
        told += f", curvature of {count(examples)} of them"
    if tokens:
        told += f", {count(tokens, 'token')}"
    if examples and settings.get("fisher") in _FISHER:
        told += f", {_FISHER[settings['fisher']]}"
    return Fact("fitted on", told, line=2)


def _holds(tree: xr.DataTree, is_attached: bool) -> list[Fact]:
    here = away = 0
    for node in tree.subtree:
        for variable in node.to_dataset(inherit=False).variables.values():
            if variable._in_memory:
                here += variable.nbytes
            else:
                away += variable.nbytes
    told = " and ".join(f"{size(n)} {where}" for n, where in ((here, "in memory"), (away, "on disk")) if n)
    shown = "; ".join(filter(None, [told, _ATTACHED if is_attached else _DETACHED]))
    return [Fact("holds", shown), *([Fact("", f"holds {told}", line=2)] if told else [])]


def _is_worth_saying(name: str, value: Any) -> bool:
    return name not in _SAID and value is not None
