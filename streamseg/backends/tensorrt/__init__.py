"""TensorRT: its runtime, and the back end that runs plans."""
