"""What is measured on: one model, its text and an MLP, made once from a fixed seed and kept in a folder.

Both sides of a comparison load the same files. The text is what every clone and every Python have: Genesis in English
and Spanish (bundled) and the help topics of Python itself, cut into sequences of equal length without padding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.child import Run

__all__ = ["FULL", "GPU", "QUICK", "SIZES", "Size", "data", "layer_names", "mlp", "model", "prepare", "sequences"]


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        name: of the folder under the cache.
        vocabulary, hidden, layers, heads, length: of the GPT-NeoX; an MLP is four times as wide as `hidden`.
        train: training sequences of the factors and of most workloads.
        many: training sequences of the index.
        queries: query sequences; they are none of the training sequences.
        new: queries asked of the index.
        asked: queries whose tokens are attributed.
        steps: of training; 0 leaves the model random, and its text is random token ids.
        widths: of the MLP, from input to classes.
        examples: of the MLP.
        device: where the passes run.
    """

    name: str = "full"
    vocabulary: int = 1024
    hidden: int = 256
    layers: int = 4
    heads: int = 8
    length: int = 128
    train: int = 256
    many: int = 2048
    queries: int = 256
    new: int = 32
    asked: int = 8
    steps: int = 150
    widths: tuple[int, ...] = (784, 256, 256, 10)
    examples: int = 1000
    device: str = "cpu"


FULL = Size()
QUICK = Size(
    "quick", vocabulary=300, hidden=32, layers=2, heads=4, length=16, train=24, many=48, queries=12, new=4, asked=2,
    steps=4, widths=(12, 8, 5), examples=40,
)  # fmt: skip
GPU = Size(
    "gpu", vocabulary=50257, hidden=768, layers=12, heads=12, length=512, train=512, many=512, queries=64, new=32,
    steps=0, device="cuda",
)  # fmt: skip
SIZES = {size.name: size for size in (FULL, QUICK, GPU)}


def layer_names(size: Size) -> list[str]:
    """The covered layers, the two MLP matrices of every block: what `layers="auto"` covers."""
    kinds = ("dense_h_to_4h", "dense_4h_to_h")
    return [f"gpt_neox.layers.{block}.mlp.{kind}" for block in range(size.layers) for kind in kinds]


def prepare(run: Run) -> dict[str, np.ndarray]:
    """Make what the folder lacks: sequences of tokens, the trained model, the trained MLP.

    Args:
        run: gives the size and the folder; its notes say on what machine and with which versions this is measured.

    Returns:
        Nothing to compare.
    """
    folder, size = run.folder, run.size
    run.note(**_machine(size))
    folder.mkdir(parents=True, exist_ok=True)
    _once(folder / "sequences.npy", lambda path: np.save(path, _cut(size)))
    if size.steps:
        _once(folder / "mlp.safetensors", lambda path: _save(path, _trained_mlp(size)))
        _once(folder / "model.safetensors", lambda path: _save(path, _trained_model(run)))
    return {}


def sequences(folder: Path, size: Size, *, dim: str = "train") -> np.ndarray:
    """`(sequence, token)` int64: the training sequences (all `many` of them), or the queries."""
    rows: np.ndarray = np.load(folder / "sequences.npy")
    return rows[: size.many] if dim == "train" else rows[size.many :]


def model(folder: Path | None, size: Size) -> nn.Module:
    """The language model in eval mode on the size's device; without a folder, or untrained, drawn by seed 0."""
    from safetensors.torch import load_model

    from inflab.models.training import blank

    found: nn.Module = blank(_config(size), 0)
    if folder is not None and size.steps:
        load_model(found, folder / "model.safetensors")
    return found.to(size.device)


def mlp(folder: Path, size: Size) -> nn.Module:
    """The classifier in eval mode."""
    from safetensors.torch import load_model

    found = _mlp(size)
    load_model(found, folder / "mlp.safetensors")
    return found.eval()


def data(size: Size) -> tuple[Tensor, Tensor]:
    """What the MLP learns: `(example, input)` around a centre for each class, and `(example,)` the class."""
    import torch

    random = torch.Generator().manual_seed(0)
    centre_ci = torch.randn(size.widths[-1], size.widths[0], generator=random)
    label = torch.randint(size.widths[-1], (size.examples,), generator=random)
    # Inputs with a decaying spectrum, as pixels have: equal variances would leave their eigenvectors undetermined.
    scale_i = torch.linspace(2, 0.1, size.widths[0])
    return scale_i * (0.5 * centre_ci[label] + torch.randn(size.examples, size.widths[0], generator=random)), label


def _machine(size: Size) -> dict[str, Any]:
    import platform
    from importlib.metadata import distributions

    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    shown = ("inflab", "torch", "transformers", "numpy", "distributed", "kronfluence", "dattri-llm")
    versions = {found.name: found.version for found in distributions() if found.name in shown}
    return {
        "processor": torch.cuda.get_device_name() if size.device == "cuda" else processor,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: versions[name] for name in shown if name in versions},
    }


def _config(size: Size) -> Any:
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=size.length,
        attn_implementation="sdpa",
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def _once(path: Path, make: Any) -> None:
    """Make a file that is missing; it appears whole, or not at all."""
    if not path.exists():
        partial = path.with_name(f"partial-{path.name}")
        make(partial)
        partial.replace(path)


def _save(path: Path, found: nn.Module) -> None:
    from safetensors.torch import save_model

    save_model(found, str(path))


def _cut(size: Size) -> np.ndarray:
    needed = size.many + size.queries
    random = np.random.default_rng(0)
    if not size.steps:
        return random.integers(size.vocabulary, size=(needed, size.length))
    from pydoc_data.topics import topics

    import inflab
    from inflab.datasets.vocabulary import train_bpe, wrap

    texts = [*map(str, inflab.datasets.load("genesis")["text"].to_numpy()), *topics.values()]
    tokenizer = wrap(train_bpe(texts, size.vocabulary))
    token = np.concatenate([np.array(row) for row in tokenizer(texts, verbose=False)["input_ids"]])
    rows = token[: len(token) // size.length * size.length].reshape(-1, size.length)
    if len(rows) < needed:
        raise ValueError(f"the bundled text gives {len(rows)} sequences of {size.length} tokens; {needed} are needed")
    return random.permutation(rows)[:needed]


def _trained_model(run: Run) -> nn.Module:
    from inflab.adapters import from_dataset
    from inflab.models.training import train

    size = run.size
    corpus = from_dataset([{"input_ids": row} for row in sequences(run.folder, size)])
    found: nn.Module = train(_config(size), corpus, steps=size.steps, seed=0, progress=False).model
    return found


def _mlp(size: Size) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in zip(size.widths, size.widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _trained_mlp(size: Size) -> nn.Module:
    """Adam for a few steps, so that losses are neither equal nor all near zero."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(0)
    found, (x, y) = _mlp(size), data(size)
    optimizer = torch.optim.Adam(found.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(found(x), y).backward()
        optimizer.step()
    return found


def resized(size: Size, **sizes: Any) -> Size:
    """The same with other sizes and a random model: for times that do not depend on what was learned."""
    return dataclasses.replace(size, steps=0, **sizes)


STEPS = {"prepare": prepare}
