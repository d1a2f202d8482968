"""What a log's columns seem to be, from a sample of its rows: names make a guess likely, values decide it."""
