"""The benchmark of the three nets: every way to run each of them, side by side.

Engines of one's own, such as one with a known delay, are measured the same way by
:func:`streamseg.benchmark.nets.custom.measure_engines`.
"""
