"""The identity of a value: its canonical text, the 64-bit key of that, and what may be an id or a name at all."""
