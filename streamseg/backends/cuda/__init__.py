"""The GPU's runner: buffers, CUDA graph, pre- and postprocessing on the device."""
