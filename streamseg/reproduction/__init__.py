"""Repeats the paper's comparison: three nets, one recipe, k-fold, and one report of what replicates.

A report's folder::

    plan.json               settings, data and open choices, fixed at the first start
    runs/<net>-<fold>/      one training run each; result.json holds its figures once it is finished
    examples/<fold>-*.png   the fold's example image and its mask
    phantom/                the phantoms, if they are the data
    report.html, report.md, pictures/, result.json   written anew after every run

``plan.json`` and the ``result.json`` of the runs are enough to write the report again.
"""
