"""The rows of benchmark results: a dataclass per benchmark, whose fields are the keys of the JSON."""
