"""Texts read by a pretrained encoder: its vectors, what an update moves of it, and the numbers it gives a ranker."""
