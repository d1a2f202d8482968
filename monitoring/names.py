"""The names by which the program itself decides; nobody else bears one."""

from typing import Final

GATE: Final = "gate"
WATCH: Final = "watch"
DEADLINE: Final = "deadline"
RESERVED = (GATE, WATCH, DEADLINE)
