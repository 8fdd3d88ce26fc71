"""Stages as a graph: what has to run, running it, and a record of what was run."""
