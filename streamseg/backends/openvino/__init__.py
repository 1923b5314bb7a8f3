"""OpenVINO: the graph of a net, and the back end that runs it."""
