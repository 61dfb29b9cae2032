"""`load`: reopen what was saved, and refuse another model or corpus. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from inflab import store
from inflab.errors import SettingError, StoreError
from inflab.influence import Influence
from inflab.schema import validate

if TYPE_CHECKING:
    from inflab.problem import Problem

__all__ = ["load"]


def load(path: str | Path, problem: Problem | None = None) -> Influence | xr.Dataset | xr.DataTree:
    """Reopen what `Influence.save` or `inflab.save` wrote; arrays are read when they are used.

    Args:
        path: the store.
        problem: the model, task and corpus of the fit, to ask further questions of a saved Influence.

    Returns:
        An `Influence` for saved factors; otherwise the dataset or tree that was saved.

    Raises:
        StoreError: nothing there, half written, another schema version, or another model or corpus than `problem`:
            both fingerprints are named.
        SettingError: when `problem` is not one.
    """
    tree = store.open_tree(path)
    validate(tree)
    if problem is not None and tree.attrs["kind"] != "corpus":
        if not hasattr(problem, "model_fingerprint"):
            raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
        for what in ("model", "corpus"):
            saved = tree.attrs[f"{what}_fingerprint"]
            given = getattr(problem, f"{what}_fingerprint")()
            if saved != given:
                raise StoreError(
                    f"path={str(path)!r} was made from the {what} with fingerprint {saved}, problem has {given}; "
                    f"give the same {what}, or fit again"
                )
    if tree.attrs["kind"] != "factors":
        return tree if tree.children else tree.to_dataset()
    return Influence(tree, problem)
