"""The names by which the program itself decides; nobody else bears one."""

GATE, WATCH, DEADLINE = RESERVED = ("gate", "watch", "deadline")
