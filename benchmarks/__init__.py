"""What inflab costs beside its peers, measured: `python -m benchmarks`, or `make bench`.

`workloads` says what is compared, `harness` runs the sides by turns in fresh processes and writes JSON, `report` turns
the JSON into a table and charts. Each side is one module: `ours`, `peer_kronfluence`, `peer_dattri`.
"""
