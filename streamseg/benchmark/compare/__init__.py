"""Two results, or two commits: what got slower or worse."""
