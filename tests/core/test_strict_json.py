import json

from streamseg.core.files import finite


def test_what_is_not_finite_becomes_null_at_any_depth():
    value = {"a": (1.5, float("nan")), 2: {"b": [float("inf"), "x", None, True]}}
    assert finite(value) == {"a": [1.5, None], "2": {"b": [None, "x", None, True]}}
    json.dumps(finite(value), allow_nan=False)
