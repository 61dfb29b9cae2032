"""The card of an Index: how small it is, and how well it orders sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inflab.cards.page import Card, Fact
from inflab.cards.words import count, percent, size, visible

__all__ = ["index_card"]


def index_card(attrs: Mapping[str, Any], n_train: int, n_bytes: int, path: str) -> Card:
    """What an index holds.

    Args:
        attrs: of the `Index`.
        n_train: sequences in it.
        n_bytes: of their codes.
        path: where it is kept.

    Returns:
        Its card.
    """
    facts = [
        Fact("holds", f"{count(n_train, 'training sequence')}, {size(n_bytes)}"),
        Fact("size", f"{percent(attrs['size'])} of the gradients' bytes", share=float(attrs["size"])),
        Fact("energy", f"{percent(attrs['kept_energy'])} kept", share=float(attrs["kept_energy"])),
        *_measured(attrs),
        Fact("fingerprints", f"model {attrs['model_fingerprint']}, corpus {attrs['corpus_fingerprint']}", is_code=True),
        Fact("store", visible(path, 120), is_code=True),
    ]
    return Card("Index", str(attrs["method"]), "answers without the training data", facts)


def _measured(attrs: Mapping[str, Any]) -> list[Fact]:
    """How well it orders sequences; under another damping than that of the making nobody has measured it."""
    if math.isnan(attrs["fidelity"]):
        made = f"{attrs['made_with_damping']:g} ({attrs['made_with_damping_kind']})"
        return [Fact("fidelity", f"not measured at this damping; coordinates were chosen at damping {made}")]
    fidelity, overlap = float(attrs["fidelity"]), float(attrs["top_overlap"])
    sample = count(int(attrs["sample"]), "sequence")
    return [
        Fact("fidelity", f"{fidelity:.3f} rank correlation with exact scores, on {sample}", share=fidelity),
        Fact("top 10", f"{percent(overlap)} in common with exact lists", share=overlap),
    ]
