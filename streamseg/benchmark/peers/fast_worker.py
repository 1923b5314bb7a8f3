"""Runs in the Python that has FAST (pyfast): segments folders of images as it is told, line by line.

``python fast_worker.py MODEL.onnx MEAN STD THRESHOLD`` prints a line of JSON with its version once the
net is loaded. Each line of its input, ``{"frames": "folder/frame_#.png", "masks": "file" or null}``, is a run
over such files, and is answered by a line with the number of frames and the process's processor time so far,
seconds. ``masks`` receives all masks, uint8, one after another. It ends with its input.

It imports nothing of streamseg: FAST has libraries of its own that do not fit those of OpenCV and OpenVINO.
"""

import json
import os
import sys
import time
from importlib.metadata import version


def main(model: str, *numbers: str) -> None:
    """Load the net, and answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # FAST prints a banner
    sys.path.pop(0)  # this folder, whose fast.py is another one
    import fast
    import numpy as np

    fast.Reporter.setGlobalReportMethod(fast.Reporter.INFO, fast.Reporter.NONE)
    mean, std, threshold = map(float, numbers)
    net = fast.SegmentationNetwork.create(
        model,
        meanIntensity=mean,
        standardDeviationIntensity=std,
        threshold=threshold,
        hasBackgroundClass=False,
        inferenceEngine="OpenVINO",
    )
    net.setPreserveAspectRatio(True)
    print(json.dumps({"version": version("pyfast")}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        files = fast.ImageFileStreamer.create(asked["frames"], useTimestamps=False, grayscale=True)
        net.connect(files)
        masks = [np.asarray(mask, np.uint8) for mask in fast.DataStream(net)]
        if asked["masks"] is not None:
            np.concatenate([mask.ravel() for mask in masks]).tofile(asked["masks"])
        print(
            json.dumps({"frames": len(masks), "processor_s": time.process_time()}), file=answers, flush=True
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # it may hang in Qt's own end
