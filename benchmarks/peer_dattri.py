"""dattri-llm's side: EK-FAC influence in one call, gradients streamed from the live model, or kept in memory.

Its loss is a sum over the tokens and sequences of a batch, its damping relative to each layer's mean of Lambda.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch
import torch.nn.functional as F
from dattri_llm import AttributionArguments, AttributionTask, EKFACAttributor, HookManagerConfig
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks import setting
from benchmarks.child import Run

__all__ = ["STEPS"]


class _Sequences(Dataset[dict[str, Tensor]]):
    def __init__(self, rows: Any) -> None:
        self.rows = torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index]}


def _loss(model: nn.Module, batch: Any) -> Tensor:
    token = batch["input_ids"]
    logits = model(input_ids=token).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1).float(), token[:, 1:].flatten(), reduction="sum")


def fit_and_score(run: Run, batch_size: int = 16, kept: str | None = None) -> dict[str, Any]:
    """Fit on the training sequences and score all queries, in one call.

    Args:
        run: the run.
        batch_size: sequences in a pass, of both kinds.
        kept: "memory": each side's gradients are captured once and kept; None: the model runs again for each pass.

    Returns:
        `scores (query, train)`.
    """
    folder = run.factors("dattri")
    shutil.rmtree(folder, ignore_errors=True)
    args = AttributionArguments(
        str(folder),
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        max_grad_norm=None,
        use_cpu=run.size.device == "cpu",
    )
    task = AttributionTask(_loss, setting.model(run.folder, run.size))
    hooks = HookManagerConfig(hook_types=dict.fromkeys(setting.layer_names(run.size), "linear_io"))
    train = _Sequences(setting.sequences(run.folder, run.size)[: run.size.train])
    asked = _Sequences(setting.sequences(run.folder, run.size, dim="query"))
    with run.timed("fit and score"):
        found = EKFACAttributor(args, task=task).attribute(
            train, asked, hook_config=hooks, damping=0.1, relative_damping=True, gradient_cache_residency=kept
        )
        ids, matrix = found.agnostic_matrix()
    # Rows and columns are named by the hash of their tokens; duplicates would have merged.
    assert matrix.shape == (len(train), len(asked)) and len(set(ids)) == len(train)
    return {"scores": matrix.T.contiguous().numpy()}


STEPS = {"fit_and_score": fit_and_score}
