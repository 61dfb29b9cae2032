"""Where work runs: passes over a corpus on this machine, and what each pass sums."""
