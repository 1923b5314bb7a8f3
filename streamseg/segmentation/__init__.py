"""One frame in, one segmentation out: preprocessing, a back end and postprocessing, composed."""
