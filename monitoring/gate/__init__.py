"""From what was measured to a verdict: promote, hold or reject."""
