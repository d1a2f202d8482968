"""The identity of a value: its canonical text. Two values are one id where this gives one text, by whatever way they
came: in a file of any type, over HTTP, as JSON, or read back from the log.

=====================================  ===============================================================
value                                  canonical text
=====================================  ===============================================================
text, category                         as it is
bytes                                  the text they are in UTF-8; a byte that is none as ``\\xff``
true, false                            ``true``, ``false``
integer                                its digits
float or decimal that is whole         the digits of the integer: 1, 1.0, "1" and -0.0 as ``0`` (floats up to 2^53)
other float                            the shortest that reads back the same, at its own precision: ``0.1``
other decimal                          the same as the float, where that is exact; else all its digits
date, time                             ``2026-01-31``, ``12:30:00``
instant                                ``2026-01-31T12:30:00Z`` in UTC, without Z where it has no zone; a fraction
                                       where there is one, of 3 or 6 digits
span of time                           its seconds
list, object                           compact JSON, names in order, whole numbers without a point
null, NaN, infinity                    absent
=====================================  ===============================================================
"""

import json
import math

import numpy as np

EXACT = 2**53
"""Beyond it a float no longer holds every whole number."""


def canonical(value: object) -> str | None:
    """The canonical text of a value as Python has it after JSON; None where it is absent."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return of_float(value)
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return str(value)


def of_float(value: float, narrow: type[np.floating] = np.float64) -> str | None:
    """The canonical text of a float of the precision of ``narrow``; None where it is not finite."""
    if not math.isfinite(value):
        return None
    if abs(value) <= EXACT and value == int(value):
        return str(int(value))
    # What a narrow column holds is the nearest to what was meant, which is the shortest text that reads back as it.
    return repr(value if narrow is np.float64 else float(str(narrow(value))))


def _plain(value: object) -> object:
    """What JSON says of a value inside a list or an object, in one spelling."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if abs(value) <= EXACT and value == int(value) else value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
