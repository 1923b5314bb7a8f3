"""Starts as the replay command does, up to the first mask, and prints when each step was over.

    python -m benchmarks.start.worker MODULES ENGINE IMAGE

MODULES, with commas between them, are the back end and its libraries, imported first so that they count as
import and not as loading; ENGINE is empty for the default one. Prints a JSON object of monotonic nanoseconds,
and what was loaded. Imports nothing before it has looked at the clock.
"""

import time

BEGAN_NS = time.monotonic_ns()


def main() -> None:
    """Command line."""
    import sys

    modules, engine, image = sys.argv[1:]
    from importlib import import_module

    from streamseg.capture import open_source
    from streamseg.cli.console import limit_opencv_threads
    from streamseg.cli.engine import load_engine
    from streamseg.segmentation.segmenter import Segmenter

    for module in modules.split(","):
        import_module(module)
    imported_ns = time.monotonic_ns()
    limit_opencv_threads()
    backend = load_engine(engine or None, throughput=True)
    loaded_ns = time.monotonic_ns()
    with open_source(image) as source:
        frame = next(iter(source))
    decoded_ns = time.monotonic_ns()
    mask = Segmenter(backend).segment(frame).mask
    masked_ns = time.monotonic_ns()

    import json

    ends = {
        "python": BEGAN_NS,
        "import": imported_ns,
        "load": loaded_ns,
        "decode": decoded_ns,
        "mask": masked_ns,
    }
    print(json.dumps({"ends_ns": ends, "engine": backend.name, "nerve_px": int(mask.sum())}))


if __name__ == "__main__":
    main()
