"""What is known: the event log, the fold, served rows, Feast, training frames."""
