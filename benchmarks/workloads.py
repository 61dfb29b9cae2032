"""What is compared: the workloads, their contenders, and what each must reach.

A contender is one side's step with its options; the first of a workload is the one that the others are compared with.
A target names two timed sections of two contenders and the least ratio of their times, the other's to ours. Our budgets
are what the contender beside needs, so that times are compared at the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "BATCHES",
    "DATTRI",
    "FASTEST",
    "GROWTH",
    "KRONFLUENCE",
    "OURS",
    "WORKLOADS",
    "Contender",
    "Target",
    "Workload",
]

#: Kronfluence runs each workload at the faster of these batch sizes, found by a probe before the measurements.
BATCHES = {"fit": (16, 32), "score": (16, 32), "self_influence": (16, 32), "classifier": (100, 1000)}
#: Stands for the batch size that the probe found.
FASTEST = "fastest"
OURS, KRONFLUENCE, DATTRI = "ours", "peer_kronfluence", "peer_dattri"


@dataclass(frozen=True)
class Contender:
    """One side's step.

    Attributes:
        name: unique in its workload, as the table says it.
        side: a module of this package.
        step: a key of its `STEPS`.
        options: keywords of the step; `size.x` stands for that attribute of the size.
        agrees: how its numbers are held against the first contender's: "equal" to a relative 1e-4 of the largest
            entry; "pairs": per-token scores at the pairs that ours chose; "rank": only measured, not required.
        once: measured once, not by turns: a side remark.
    """

    name: str
    side: str
    step: str
    options: Mapping[str, Any] = field(default_factory=dict)
    agrees: Literal["equal", "pairs", "rank"] = "equal"
    once: bool = False


@dataclass(frozen=True)
class Target:
    """The other's seconds over ours must be at least so much.

    Attributes:
        at_least: the ratio.
        other: name of a contender.
        sections: of ours, summed.
        other_sections: of the other's, summed; the same when empty.
        ours: name of our contender; the workload's first when empty.
        same_memory: whether our peak memory must be at most the other's.
    """

    at_least: float
    other: str
    sections: tuple[str, ...]
    other_sections: tuple[str, ...] = ()
    ours: str = ""
    same_memory: bool = True


@dataclass(frozen=True)
class Workload:
    """A workload.

    Attributes:
        name: "W1", ...
        title: what is done.
        contenders: the first is ours.
        targets: what must be reached.
        needs: sides whose factors must be there.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    needs: tuple[str, ...] = ()


def _kronfluence(name: str, step: str, **options: Any) -> Contender:
    """A contender of Kronfluence; `agrees` and `once` are the contender's, the other keywords the step's."""
    own = {key: options.pop(key) for key in ("agrees", "once") if key in options}
    return Contender(name, KRONFLUENCE, step, {"batch_size": FASTEST, **options}, **own)


_BOTH = (OURS, KRONFLUENCE)
_PEER = "Kronfluence"

WORKLOADS = (
    Workload(
        "W1",
        "fit",
        (
            Contender("inflab, memory=430MB", OURS, "fit", {"memory": "430MB"}),
            _kronfluence(_PEER, "fit"),
            Contender("inflab, memory=3GB", OURS, "fit", {"memory": "3GB"}),
            Contender("inflab, memory=1GB", OURS, "fit", {"memory": "1GB"}, once=True),
        ),
        (
            Target(2.0, _PEER, ("fit",)),
            Target(2.6, _PEER, ("fit",), ours="inflab, memory=3GB", same_memory=False),  # W1b
        ),
    ),
    Workload(
        "W2",
        "score all queries, factors ready",
        (
            Contender("inflab, memory=3GB", OURS, "score", {"memory": "3GB"}),
            _kronfluence("Kronfluence, query batch 32", "score"),
            Contender("inflab, memory=900MB", OURS, "score", {"memory": "900MB"}, once=True),
            _kronfluence("Kronfluence, accumulate 8", "score", accumulate=8),
            Contender("inflab, rank 32", OURS, "score", {"rank": 32, "memory": "900MB"}, "rank", once=True),
        ),
        (
            Target(4.0, "Kronfluence, query batch 32", ("score",), same_memory=False),
            Target(2.2, "Kronfluence, accumulate 8", ("score",)),
        ),
        _BOTH,
    ),
    Workload(
        "W3",
        "self-influence, factors ready",
        (
            Contender("inflab, memory=1500MB", OURS, "self_influence", {"memory": "1500MB"}),
            _kronfluence(_PEER, "self_influence"),
        ),
        (Target(3.0, _PEER, ("self-influence",)),),
        _BOTH,
    ),
    Workload(
        "W4",
        "an MLP of one token an example",
        (Contender("inflab", OURS, "classifier"), _kronfluence(_PEER, "classifier")),
        (Target(20.0, _PEER, ("Lambda",)), Target(20.0, _PEER, ("self-influence",))),
    ),
    Workload(
        "W5",
        "tokens of the top 10 of each query, factors ready",
        (
            Contender("inflab, memory=450MB", OURS, "attribute", {"memory": "450MB"}),
            _kronfluence("Kronfluence, per token", "score", n_queries="size.asked", per_token=True, agrees="pairs"),
        ),
        (
            Target(4.0, "Kronfluence, per token", ("attribute",), ("score",)),
            Target(4.0, "Kronfluence, per token", ("score and top", "attribute"), ("score",)),
        ),
        _BOTH,
    ),
    Workload(
        "W6",
        "new queries from an index of many sequences",
        (
            Contender("inflab", OURS, "index", once=True),
            _kronfluence("Kronfluence, pairwise", "score", n_queries="size.new", n_train="size.many", agrees="rank"),
        ),
        (Target(50.0, "Kronfluence, pairwise", ("ask",), ("score",), same_memory=False),),
        _BOTH,
    ),
    Workload(
        "P2",
        "fit and score all queries, from nothing; a second peer",
        (
            Contender("inflab", OURS, "fit_and_score", {"memory": "3GB"}, once=True),
            Contender("dattri-llm, gradients kept", DATTRI, "fit_and_score", {"kept": "memory"}, "rank", once=True),
        ),
    ),
    Workload(
        "W7",
        "fit and score on an accelerator",
        (
            Contender("inflab", OURS, "fit_and_score"),
            Contender("Kronfluence", KRONFLUENCE, "fit_and_score", {"batch_size": 16}),
            Contender("inflab, bf16", OURS, "fit_and_score", {"dtype": "bfloat16"}, "rank"),
            Contender("Kronfluence, bf16", KRONFLUENCE, "fit_and_score", {"batch_size": 16, "amp": "bfloat16"}, "rank"),
        ),
        (
            Target(2.0, "Kronfluence", ("fit",), same_memory=False),
            Target(2.0, "Kronfluence", ("score",), same_memory=False),
            Target(2.0, "Kronfluence, bf16", ("fit",), ours="inflab, bf16", same_memory=False),
            Target(2.0, "Kronfluence, bf16", ("score",), ours="inflab, bf16", same_memory=False),
        ),
    ),
)

#: Of inflab alone: how time grows with one size at a time, and what a second Dask worker brings.
GROWTH = (
    Workload(
        "growth",
        "growth with one size at a time",
        tuple(Contender(axis, "scaling", axis, once=True) for axis in ("n_train", "n_queries", "length", "hidden")),
    ),
    Workload(
        "workers",
        "32 queries with one and with two Dask workers of one thread each",
        (Contender("inflab", "scaling", "workers", once=True),),
    ),
)
