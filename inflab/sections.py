"""Modules of one input and one output around covered layers: from what goes in and comes back they can run again.

A fit whose tokens do not fit the memory keeps these ends instead (`inflab.run.replay`): of an MLP of width 4 d, 2 d
numbers a token where its layers' tokens are 10 d.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from inflab.layer import Layer

__all__ = ["Section", "sections"]


@dataclass(frozen=True)
class Section:
    """A module of one input and one output, and the covered layers in it.

    Attributes:
        name: of the module.
        layers: in order; at least two.
    """

    name: str
    layers: tuple[Layer, ...]

    @property
    def width(self) -> int:
        """Numbers a token that are kept: of its input and its output, as its first and last layers have them."""
        return self.layers[0].inputs + self.layers[-1].outputs


def sections(model: nn.Module, layers: Sequence[Layer]) -> list[Section]:
    """The smallest modules that hold two or more covered layers, take one argument, and are smaller kept than those.

    Args:
        model: the model; never a section itself.
        layers: the covered layers.

    Returns:
        Sections with no layer in common, in order.
    """
    if getattr(model, "hf_device_map", None):  # its hooks move inputs between devices
        return []
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        if len(layer.modules) == 1 and layer.kind in ("Linear", "Conv1D"):
            parents = layer.modules[0].split(".")[:-1]
            near = [other.modules[0] for other in layers if other is not layer and len(other.modules) == 1]
            for depth in range(len(parents), 0, -1):
                name = ".".join(parents[:depth])
                if any(other.startswith(f"{name}.") for other in near):
                    found.setdefault(name, []).append(layer)
                    break
    made = [Section(name, tuple(held)) for name, held in found.items() if len(held) > 1]
    return [
        section
        for section in made
        if len(inspect.signature(type(model.get_submodule(section.name)).forward).parameters) == 2  # self, and one
        and section.width < sum(layer.inputs + layer.outputs for layer in section.layers)
    ]
