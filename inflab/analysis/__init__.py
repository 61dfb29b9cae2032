"""What the findings of Grosse et al. 2023 are measured with: labelled arrays in, labelled arrays out; no torch.

Where in the network influence comes from (`depth`), whether two groups of queries differ (`permutation_test`), whether
a list shares its query's words (`overlap`), its kind (`enrichment`) or another query's list (`correlation`, `within`),
what one kind of training sequence does beside another (`ratio`), and which sequences owe it all to a token or two
(`sparsity`, `drop_sparse`).
"""

from inflab.analysis.correlation import correlation, within
from inflab.analysis.depth import depth
from inflab.analysis.enrichment import enrichment
from inflab.analysis.overlap import overlap
from inflab.analysis.permutation import permutation_test
from inflab.analysis.ratio import ratio
from inflab.analysis.sparsity import drop_sparse, sparsity

__all__ = [
    "correlation",
    "depth",
    "drop_sparse",
    "enrichment",
    "overlap",
    "permutation_test",
    "ratio",
    "sparsity",
    "within",
]
