"""Served rows: the feature values that each impression was ranked with."""
