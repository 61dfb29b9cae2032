"""Which modules influence covers, and how each kind lays out its activations and gradients.

Every covered layer is a matrix `gradient x activation`: the gradient of one example is the sum over its tokens
of `Ds a_bar^T`, with `a_bar = (a; 1)` when the layer has a bias.

| kind | activation of a token | gradient of a token | tokens |
|---|---|---|---|
| Linear, Conv1D (transformers) | its input | at its output | all axes between batch and features |
| Conv2d | the unfolded patch | at the output's channels | output positions; with groups, one per group |
| Embedding | one-hot of the id, kept as an index | at its output | positions |
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from inflab.cards import LayerTable
from inflab.errors import LayerError, ModelError

if TYPE_CHECKING:
    from inflab.problem import Problem

__all__ = ["Layer", "LayerPattern", "layers", "select_layers"]

LayerPattern = str | Sequence[str] | Callable[[str, nn.Module], bool]

_MLP = re.compile(
    r"(^|\.)(mlp|ffn|ff|feed_forward|feedforward|DenseReluDense|intermediate)(\.|$)|(^|\.)fc[12]$|(?<!attention)\.output\.dense$"
)


@dataclass(frozen=True)
class Layer:
    """One covered weight matrix.

    Attributes:
        name: the module's path in the model, and the value of the `layer` coordinate.
        modules: every module path that uses this weight; more than one when a weight is shared.
        kind: "Linear", "Conv1D", "Conv2d" or "Embedding".
        inputs: length of an activation, without the bias.
        outputs: length of a gradient.
        has_bias: whether a bias column is appended to the activation.
        parameters: number of parameters.
    """

    name: str
    modules: tuple[str, ...]
    kind: str
    inputs: int
    outputs: int
    has_bias: bool
    parameters: int

    @property
    def width(self) -> int:
        """Length of `a_bar`: inputs, and one for the bias."""
        return self.inputs + self.has_bias

    @property
    def block(self) -> int:
        """Index of the transformer block, read from the name; -1 when there is none."""
        found = re.search(r"(?:^|\.)(\d+)(?=\.|$)", self.name)
        return int(found.group(1)) if found else -1

    @property
    def role(self) -> str:
        """The name after the block's index ("mlp.c_fc"), or the whole name."""
        return re.sub(r"^.*?(?:^|\.)\d+\.", "", self.name)


def layers(model: nn.Module | Problem, pattern: LayerPattern = "*") -> LayerTable:
    """Which layers a pattern covers, and which not and why.

    Args:
        model: a torch module, or a `Problem`.
        pattern: "auto", a glob, a list of names or globs, or a predicate `(name, module) -> bool`.

    Returns:
        A `pandas.DataFrame` with one row per module that owns parameters, drawn with bars in notebooks: `kind`, `shape`
        (gradient x activation, with the bias column), `parameters`, `covered`, `why_not`; `attrs` hold `parameters`,
        `covered` and `share` of the model.

    Raises:
        LayerError: when the pattern matches no supported layer; near names are listed.
        ModelError: when `model` is something else.

    Example:
        >>> found = inflab.layers(problem, "*.mlp.c_fc")
        >>> found.loc[found["covered"], "shape"].to_dict()
        {'transformer.h.0.mlp.c_fc': '128 x 33', 'transformer.h.1.mlp.c_fc': '128 x 33'}
    """
    model = model if isinstance(model, nn.Module) else getattr(model, "model", model)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; give a torch.nn.Module or a Problem")
    found, why_not = _supported(model)
    chosen = {layer.name for layer in select_layers(model, pattern)}
    by_name = {layer.name: layer for layer in found}
    rows = []
    for name, module in model.named_modules():
        own = sum(p.numel() for p in module.parameters(recurse=False))
        if not own:
            continue
        layer = by_name.get(name)
        reason = "" if name in chosen else why_not.get(name, f"not matched by layers={_show(pattern)}")
        rows.append({
            "layer": name,
            "kind": layer.kind if layer else type(module).__name__,
            "shape": f"{layer.outputs} x {layer.width}" if layer else "",
            "parameters": own,
            "covered": name in chosen,
            "why_not": reason,
        })
    table = LayerTable(pd.DataFrame(rows).set_index("layer"))
    total = sum(p.numel() for p in model.parameters())
    covered = sum(by_name[name].parameters for name in chosen)
    table.attrs = {"parameters": total, "covered": covered, "share": covered / total}
    return table


def select_layers(model: nn.Module, pattern: LayerPattern = "auto") -> list[Layer]:
    """The layers a pattern covers, in the model's order.

    "auto" takes the MLP matrices of a transformer (GB23 section 2), every supported layer of another network, and
    never an output head as wide as the vocabulary.

    Args:
        model: any torch module.
        pattern: see `layers`.

    Returns:
        One `Layer` for each weight matrix; modules that share one are one layer.

    Raises:
        LayerError: when nothing matches, or a named layer is not supported; near names are listed.
    """
    found, why_not = _supported(model)
    if "" in why_not and not found:
        raise LayerError(f"the model itself cannot be covered: {why_not['']}")
    names = [layer.name for layer in found]
    if isinstance(pattern, str) and pattern == "auto":
        chosen = _auto(model, found)
        if not chosen:
            raise LayerError(
                f"layers='auto' found no MLP matrix in {type(model).__name__}; choose from {_near('', names)}"
            )
        return chosen
    if callable(pattern):
        modules = dict(model.named_modules())
        chosen = [layer for layer in found if pattern(layer.name, modules[layer.name])]
    else:
        globs = [pattern] if isinstance(pattern, str) else _globs(pattern)
        chosen = [layer for layer in found if any(fnmatch.fnmatchcase(layer.name, glob) for glob in globs)]
        for glob in globs:
            if glob in why_not:
                raise LayerError(f"layers={glob!r} cannot be covered: {why_not[glob]}")
            if not any(fnmatch.fnmatchcase(name, glob) for name in names):
                raise LayerError(f"layers={glob!r} matches no supported layer; near names: {_near(glob, names)}")
    if not chosen:
        raise LayerError(f"layers={_show(pattern)} matches no supported layer; there are: {_near('', names)}")
    return chosen


def _globs(pattern: Any) -> list[str]:
    globs = list(pattern) if isinstance(pattern, Iterable) else [pattern]
    if not all(isinstance(glob, str) for glob in globs):
        raise LayerError(f"layers={pattern!r} is not 'auto', a glob, a list of names or globs, or a predicate")
    return globs


def _auto(model: nn.Module, found: Iterable[Layer]) -> list[Layer]:
    found = list(found)
    if hasattr(model, "config") and hasattr(model, "get_input_embeddings"):
        return [layer for layer in found if layer.kind in ("Linear", "Conv1D") and _MLP.search(layer.name)]
    return found


def _supported(model: nn.Module) -> tuple[list[Layer], dict[str, str]]:
    """Every supported layer, and for each other module with parameters the reason why not."""
    by_weight: dict[int, Layer] = {}
    why_not: dict[str, str] = {}
    others: dict[int, str] = {}  # parameters of modules that are not supported
    for name, module in model.named_modules(remove_duplicate=True):
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        described = _describe(name, module)
        if isinstance(described, str):
            why_not[name] = described
            others.update({id(p): name for p in module.parameters(recurse=False)})
            continue
        weight = id(module.weight)
        first = by_weight.setdefault(weight, described)
        if first is described:
            continue
        is_alike = _settings(module) == _settings(model.get_submodule(first.name))
        if is_alike and not first.has_bias and not described.has_bias:
            by_weight[weight] = Layer(**{**vars(first), "modules": (*first.modules, name)})
            why_not[name] = f"shares its weight with {first.name!r}, which covers both uses"
        else:
            # The gradient of the shared matrix is the sum over both uses, which needs one common layout.
            reason = "shares its weight with {!r}, which uses it in another way; their sum has no Kronecker factors"
            why_not[name] = reason.format(first.name)
            why_not[first.name] = reason.format(name)
    for layer, other in _sharing_biases(model, by_weight.values()):
        why_not[layer] = f"shares its bias with {other!r}, whose weight is another"
    for weight in by_weight.keys() & others.keys():
        why_not[by_weight[weight].name] = f"shares its weight with {others[weight]!r}, which is not supported"
    return [layer for layer in by_weight.values() if layer.name not in why_not], why_not


def _settings(module: nn.Module) -> tuple[Any, ...]:
    """What must agree for two modules to use one weight in one layout."""
    named = ("stride", "padding", "dilation", "groups", "padding_mode", "padding_idx")
    return (type(module), *(getattr(module, name, None) for name in named))


def _sharing_biases(model: nn.Module, found: Iterable[Layer]) -> list[tuple[str, str]]:
    """Pairs of layers that share a bias but not a weight, both ways round."""
    by_bias: dict[int, list[str]] = {}
    for layer in found:
        if layer.has_bias:
            by_bias.setdefault(id(model.get_submodule(layer.name).bias), []).append(layer.name)
    return [(a, b) for names in by_bias.values() for a in names for b in names if a != b]


def _describe(name: str, module: nn.Module) -> Layer | str:
    """The layer a module is, or the reason why it is none."""
    kind = type(module).__name__
    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter):
        return f"{kind} is not supported (Linear, Conv1D, Conv2d, Embedding are)"
    if not name:
        return f"a model that is a single {kind} has no layer name; wrap it: torch.nn.Sequential(model)"
    if "/" in name:
        return "its name holds a '/', which separates levels in a tree of arrays; rename the module"
    if type(module) is nn.modules.linear.NonDynamicallyQuantizableLinear:
        return "nn.MultiheadAttention reads its weight without calling it, so its input cannot be seen"
    has_bias = getattr(module, "bias", None) is not None
    parameters = sum(p.numel() for p in module.parameters(recurse=False))
    if type(module) is nn.Embedding:
        if module.scale_grad_by_freq or module.max_norm is not None:
            return "Embedding with scale_grad_by_freq or max_norm has no per-example gradient"
        inputs, outputs = module.num_embeddings, module.embedding_dim
    elif isinstance(module, nn.Linear):
        if type(module).forward is not nn.Linear.forward:
            return f"{kind} overrides the forward of Linear, so its gradient may be another"
        inputs, outputs = module.in_features, module.out_features
        kind = "Linear"
    elif kind == "Conv1D" and weight.ndim == 2:  # transformers.pytorch_utils.Conv1D stores its weight transposed
        inputs, outputs = weight.shape
    elif type(module) is nn.Conv2d:
        inputs, outputs = weight[0].numel(), module.out_channels
    else:
        return f"{kind} is not supported (Linear, Conv1D, Conv2d, Embedding are)"
    return Layer(name, (name,), kind, int(inputs), int(outputs), has_bias, parameters)


def _near(glob: str, names: list[str]) -> str:
    if not names:
        return "(the model has no supported layer)"
    bare = glob.replace("*", "").strip(".")
    return ", ".join(difflib.get_close_matches(bare, names, n=5, cutoff=0.2) or names[:5])


def _show(pattern: LayerPattern) -> str:
    return getattr(pattern, "__name__", None) or repr(pattern)
