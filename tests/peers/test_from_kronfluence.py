"""What docs/from-kronfluence.md shows as the two sides of one example gives the same numbers.

The code is read from the page and run as it stands there. Kronfluence's defaults compute in float32.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr

from tests import tiny

#: No calls that one makes, and a flag that stands for a method that has a row.
CHOSEN_BY_NAME = {"factors_output_dir", "scores_output_dir", "enable_post_process_per_sample_gradient"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-kronfluence.md"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:.torch.cuda.amp.GradScaler:FutureWarning:kronfluence"),
]


def _items(n: int, prompt: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Texts of 3 to 8 tokens, padded to 8; the first `prompt` tokens are no targets."""
    draw = torch.Generator().manual_seed(seed)
    items = []
    for length in torch.randint(prompt + 3, 9, (n,), generator=draw).tolist():
        is_text = torch.arange(8) < length
        token_id = torch.randint(1, 320, (8,), generator=draw) * is_text
        is_target = is_text & (torch.arange(8) >= prompt)
        items.append({
            "input_ids": token_id, "attention_mask": is_text.long(), "labels": token_id.where(is_target, -100)
        })  # fmt: skip
    return items


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page's two blocks leave behind."""
    pytest.importorskip("kronfluence")
    example = PAGE.read_text("utf-8").partition("## What differs")[0]
    theirs, ours = re.findall(r"```python\n(.*?)```", example, re.DOTALL)
    model = tiny.llama()
    names: dict[str, Any] = {
        "model": model,
        "layers": [name for name, _ in model.named_modules() if ".mlp." in name and name.endswith("_proj")],
        "train_data": _items(10, 0, seed=1),
        "query_data": _items(3, 2, seed=2),
        "folder": str(tmp_path_factory.mktemp("kronfluence")),
    }
    with tiny.untouched(model):
        for block in (theirs, ours):
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_both_sides_of_the_page_give_the_same_scores(page: dict[str, Any]) -> None:
    ours = page["ours"]
    assert isinstance(ours, xr.DataArray)
    tiny.agree(ours.transpose("query", "train"), page["theirs"].numpy(), rtol=1e-4)


def test_sums_and_counts_of_the_peer_are_the_means_here(page: dict[str, Any]) -> None:
    """ "Sums and means" of the page; the sum of the eigenvalues does not depend on the eigenvectors."""
    found = page["analyzer"].load_lambda_matrices("ekfac")
    for layer in page["layers"]:
        theirs = float(found["lambda_matrix"][layer].sum() / found["num_lambda_processed"][layer])
        assert float(page["ekfac"].factors[layer]["eigenvalues"].sum()) == pytest.approx(theirs, rel=1e-4)


def test_the_page_names_what_kronfluence_has(page: dict[str, Any]) -> None:
    """No call or argument is spelt wrongly, or gone in another version; no call and no option is left out."""
    from kronfluence import arguments
    from kronfluence.task import Task

    analyzer = type(page["analyzer"])
    calls = {name for owner in (Task, analyzer) for name in vars(owner) | _inherited(owner) if name[0] != "_"}
    options = {field.name for owner in (arguments.FactorArguments, arguments.ScoreArguments) for field in fields(owner)}
    parameters = {name for owner in (Task, analyzer) for call in calls for name in _parameters(owner, call)}
    others = {"Analyzer", "prepare_model", "apply_ddp", "apply_fsdp", "model", "TrackedModule"}

    tables = PAGE.read_text("utf-8").partition("## The model and the task")[2]
    cells = re.findall(r"^\| (`.*?|a subclass.*?) \|", tables, re.M)
    named = {name for cell in cells for name in re.findall(r"`(?:\w+\.)*(\w+)(?:[(=][^`]*)?`", cell)}
    # Values of an argument whose name stands before them are quoted: `strategy="ekfac"`, `"kfac"`.
    assert named - calls - options - parameters - others == set()
    assert (calls | options) - named - CHOSEN_BY_NAME == set()


def _inherited(owner: type) -> dict[str, Any]:
    return {name: value for base in owner.__mro__[1:-1] for name, value in vars(base).items()}


def _parameters(owner: type, call: str) -> set[str]:
    found = getattr(owner, call, None)
    return set(inspect.signature(found).parameters) if callable(found) else set()
