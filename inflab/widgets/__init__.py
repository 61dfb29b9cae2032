"""The widgets: they read labelled arrays, or ask an Influence through its public methods; no torch here."""

from __future__ import annotations

from inflab.widgets.ask import AskPanel
from inflab.widgets.assets import asset_path
from inflab.widgets.compare import Compare
from inflab.widgets.curvature import CurvaturePanel
from inflab.widgets.explorer import Explorer
from inflab.widgets.layer_profile import LayerProfile
from inflab.widgets.pair_map import PairMap
from inflab.widgets.playground import Playground
from inflab.widgets.rating import Rating
from inflab.widgets.sequence_list import SequenceList
from inflab.widgets.stepper import QueryStepper
from inflab.widgets.tail_plot import TailPlot
from inflab.widgets.token_view import TokenView
from inflab.widgets.what_if_panel import WhatIfPanel

__all__ = [
    "AskPanel", "Compare", "CurvaturePanel", "Explorer", "LayerProfile", "PairMap", "Playground", "QueryStepper",
    "Rating", "SequenceList", "TailPlot", "TokenView", "WhatIfPanel", "asset_path",
]  # fmt: skip
