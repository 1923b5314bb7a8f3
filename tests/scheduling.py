"""Which tests of a run share a process: those that import the same large packages, and those of one file.

Such an import takes seconds of processor time (modelopt 4, lightning-fabric 3, torch's exporter 2, nncf 1) in
every process that runs a test of it.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "torch's exporter, onnx, modelopt": (
        "tests/export/builders/test_modelopt.py",
        "tests/export/builders/test_onnx.py",
        "tests/export/builders/test_tensorrt.py",
        "tests/backends/tensorrt/",
        "tests/backends/test_compiled.py",
        "tests/backends/test_onnx.py",
        "tests/benchmark/peers/test_bench.py",
        "tests/benchmark/peers/test_runtimes.py",
        "tests/nets/test_inference.py",
    ),
    "lightning-fabric": (
        "tests/compat/test_json_keys.py",
        "tests/compat/test_old_files.py",
        "tests/cli/test_train.py",
        "tests/cli/test_reproduce.py",
        "tests/training/",
        "tests/reproduction/",
    ),
    "nncf": (
        "tests/cli/test_export.py",
        "tests/export/",
    ),
    "torchmetrics, monai": ("tests/evaluation/",),
    "a browser": (
        "tests/benchmark/report/test_write.py",
        "tests/web/test_page.py",
        "tests/web/test_page_link.py",
        "tests/web/test_proxy.py",
    ),
}
"""Groups of files, the longest first. A file belongs to the first that names it or a folder of it."""
LONG = (
    "tests/capture/test_limits.py",
    "tests/capture/screen/test_find.py",
    "tests/display/test_window.py",
    "tests/benchmark/nets/test_bench.py",
    "tests/cli/test_live.py",
    "tests/cli/test_replay.py",
    "tests/cli/test_dicom.py",
    "tests/dicom_network/",
    "tests/capture/rtsp/",
    "tests/capture/v4l2/",
    "tests/web/test_hub.py",
    "tests/web/test_server.py",
    "tests/web/test_page_clock.py",
    "tests/test_weights.py",
    "tests/live/",
    "tests/segmentation/test_temporal_filter.py",
    "tests/sinks/test_video.py",
)
"""What else takes long. It begins early, so that at the end no process waits for another."""


def scope(nodeid: str) -> str:
    """The group or the file of a test."""
    file = nodeid.partition("::")[0]
    return next((name for name, files in TOGETHER.items() if file.startswith(files)), file)


def rank(nodeid: str) -> int:
    """When a test's turn is, a group as a whole; equal ones keep their order."""
    groups, found = list(TOGETHER), scope(nodeid)
    if found in groups:
        return groups.index(found)
    return len(groups) + (not found.startswith(LONG))


class ByImports(LoadScopeScheduling):
    """Gives each process a group or a file at a time, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
