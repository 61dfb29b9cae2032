"""The paper's findings at a small scale: corpora, checkpoints and verdicts that `notebooks/findings` rest on.

One module a question holds its corpus, its queries and what is measured; `checkpoint` trains, keeps and reads the
models, `vocabulary` splits made-up texts into words, `verdict` says what a number means for the paper's claim.
"""
