"""A backtest: the log replayed as its own clock, what it found, and its page."""
