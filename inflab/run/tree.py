"""Sums of many shards, added in pairs: the order depends on the shards' numbers alone.

Floating point sums depend on their order. Here shards are the leaves of one binary tree, whose shape follows from
their number, so that the total is the same to the last bit whoever computes which shard when, and wherever a run was
broken off. On disk two halves are replaced by their sum as soon as both are there, so that about log2(shards) sums
stand there at a time, beside one for each shard that is finished out of turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from inflab.run.ledger import Arrays, Ledger

__all__ = ["add", "halves", "is_there", "keep", "missing", "remove", "total"]

#: The shards from the first to before the second.
Span = tuple[int, int]


def halves(span: Span) -> tuple[Span, Span]:
    """The two spans whose sums add up to that of `span`: the first has the largest power of two that is less."""
    first, end = span
    middle = first + (1 << (end - first - 1).bit_length() - 1)
    return (first, middle), (middle, end)


def add(left: Arrays, right: Arrays) -> Arrays:
    """The sum of two neighbours, in this order."""
    return {name: value + right[name] for name, value in left.items()}


def keep(ledger: Ledger, what: str, count: int, index: int, value: Arrays) -> None:
    """Keep the sums of one shard; where the other half is there too, keep their sum instead.

    Several processes may do so at once: two that finish both halves at the same moment write the same file twice.

    Args:
        ledger: where.
        what: which sums.
        count: number of shards in all.
        index: this shard.
        value: its sums.
    """
    lineage = list(_lineage(index, count))
    spent: list[Span] = []
    for parent, span in zip(lineage[-2::-1], lineage[:0:-1], strict=True):
        left, right = halves(parent)
        other = right if span == left else left
        held = ledger.read(_name(what, other))
        if held is None:
            ledger.keep(_name(what, span), value)
            _drop(ledger, what, spent)
            spent = [span]
            held = ledger.read(_name(what, other))  # it may have come meanwhile
            if held is None:
                return
        value = add(value, held) if span == left else add(held, value)
        spent.append(other)
    ledger.keep(_name(what, (0, count)), value)
    _drop(ledger, what, spent)


def missing(ledger: Ledger, what: str, count: int) -> list[int]:
    """Shards whose sums are not there; damaged files and those that a larger sum holds are removed on the way."""
    there = {span for span in _spans(ledger, what) if ledger.is_whole(_name(what, span))}
    _drop(ledger, what, [span for span in there if any(_holds(other, span) for other in there)])
    return [index for index in range(count) if there.isdisjoint(_lineage(index, count))]


def is_there(ledger: Ledger, what: str, count: int, index: int) -> bool:
    """Whether a shard's sums are there, alone or in a larger sum."""
    return any(ledger.is_whole(_name(what, span)) for span in _lineage(index, count))


def total(ledger: Ledger, what: str, count: int) -> Arrays:
    """The sum over all shards; every one must be there."""
    value = _sum(ledger, what, (0, count))
    if {(0, count)} != _spans(ledger, what):
        ledger.keep(_name(what, (0, count)), value)
        _drop(ledger, what, [span for span in _spans(ledger, what) if span != (0, count)])
    return value


def remove(ledger: Ledger, what: str) -> None:
    """Remove sums that nothing needs any more."""
    _drop(ledger, what, list(_spans(ledger, what)))


def _sum(ledger: Ledger, what: str, span: Span) -> Arrays:
    held = ledger.read(_name(what, span))
    if held is not None:
        return held
    assert span[1] - span[0] > 1, f"the {what} of shard {span[0]} are not there"
    left, right = halves(span)
    return add(_sum(ledger, what, left), _sum(ledger, what, right))


def _lineage(index: int, count: int) -> Iterator[Span]:
    """The spans that hold a shard, from all shards down to it alone.

    Yields:
        Spans.
    """
    span = (0, count)
    yield span
    while span[1] - span[0] > 1:
        left, right = halves(span)
        span = left if index < left[1] else right
        yield span


def _holds(outer: Span, inner: Span) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _spans(ledger: Ledger, what: str) -> set[Span]:
    parts = (name.rsplit(".", 1) for name in ledger.names())
    found = (part[1].split("-") for part in parts if part[0] == what)
    return {(int(first), int(end)) for first, end in found}


def _name(what: str, span: Span) -> str:
    return f"{what}.{span[0]}-{span[1]}"


def _drop(ledger: Ledger, what: str, spans: list[Span]) -> None:
    for span in spans:
        ledger.drop(_name(what, span))
