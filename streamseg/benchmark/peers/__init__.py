"""The comparison with other programs: runtimes and video pipelines."""
