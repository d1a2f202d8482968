"""The command line, ``millrace``."""
