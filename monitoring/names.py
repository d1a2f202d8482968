"""The names by which the program itself decides; nobody else bears one."""

from typing import Final

GATE: Final = "gate"
CANARY: Final = "canary"
WATCH: Final = "watch"
DEADLINE: Final = "deadline"
RESERVED = (GATE, CANARY, WATCH, DEADLINE)
