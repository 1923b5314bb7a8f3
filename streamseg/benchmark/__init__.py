"""Measuring speed honestly: interleaved timing, the machine's limits, the nets' work, where a result is from.

Importing a module of this package loads neither torch nor OpenVINO; measuring with them does.
"""
