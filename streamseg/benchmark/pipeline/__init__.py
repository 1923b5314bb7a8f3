"""The whole pipeline, from the file to the drawn outline, counted at both ends."""
