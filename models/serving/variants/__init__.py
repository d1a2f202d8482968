"""Variants over HTTP: wordings that are sent or proposed become items, and how each was received."""
