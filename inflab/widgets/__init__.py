"""The widgets: they read labelled arrays, or ask an Influence through its public methods; no torch here."""

from __future__ import annotations

from inflab.widgets.assets import asset_path
from inflab.widgets.explorer import Explorer

__all__ = ["Explorer", "asset_path"]
