"""The benchmark of the three nets: every way to run each of them, side by side."""
