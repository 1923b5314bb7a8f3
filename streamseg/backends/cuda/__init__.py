"""Runs nets on a GPU: buffers, CUDA graph, pre- and postprocessing on the device."""
