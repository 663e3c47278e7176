"""Sweeps: one text file per table or figure, many runs of one notebook, on this machine or on a cluster.

``files`` reads them, ``plan`` says which runs they are, ``driver`` has Snakemake make those that are missing,
``status`` and ``collect`` look at what is there, ``fetch`` brings what nodes without network need.
"""
