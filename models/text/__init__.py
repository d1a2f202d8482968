"""A pretrained text encoder in front of the ranker: its vectors, and the small part of it that an update moves."""
