"""From the formats that data sets come in to the folders that our configs read.

One module per format, :mod:`~mmwood.converters.check` for what they leave, and
``tools/dataset_converters/`` to run them.
"""
