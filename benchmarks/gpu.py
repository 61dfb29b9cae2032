"""W7: fit and score on an accelerator, ours and Kronfluence's, float32 and bfloat16: `python -m benchmarks.gpu`.

A random GPT-NeoX of GPT-2 small's shape (768 wide, 12 blocks, vocabulary 50257), 512 sequences of 512 random tokens.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import charts, report
from benchmarks.harness import measure
from benchmarks.setting import GPU
from benchmarks.workloads import WORKLOADS

_HERE = Path(__file__).parent


def main() -> str | None:
    """Measure W7 into `results/` beside the others and write the table again.

    Returns:
        Why nothing was measured, for `sys.exit`; None when all was.
    """
    import torch

    if not torch.cuda.is_available():
        return "W7 needs a CUDA device, and torch sees none here; nothing was measured"
    workload = next(one for one in WORKLOADS if one.name == "W7")
    failures = measure([workload], GPU, _HERE.parent / "build" / "bench", _HERE / "results", in_process=True)
    if failures:
        return failures["W7"]
    report.write(_HERE / "results", _HERE / "RESULTS.md")
    charts.draw(_HERE / "results", _HERE / "charts")
    return None


if __name__ == "__main__":
    sys.exit(main())
