"""A surface's file as text, from what was inferred of a log: formatted as ruff does, to be read and changed by hand."""

from dataclasses import MISSING, dataclass, fields
from datetime import timedelta

from features.declare.columns import Column
from features.declare.families import DAY, HOUR, MINUTE
from features.declare.half_lives import rounded
from features.declare.labels import Label
from features.declare.log import FromEvent, FromRow, Log
from features.ingest.inferred.inference import Inferred
from features.ingest.inferred.pace import Pace

WIDE = 120


@dataclass(frozen=True)
class Call:
    """``name(first, field=second)``; without a name a tuple."""

    name: str
    arguments: "tuple[tuple[str, Code], ...]"


Code = str | Call


def surface_text(name: str, inferred: Inferred) -> str:
    """The file that declares the surface of that name."""
    log = _of_fields(inferred.log, Log())
    body = [("name", quoted(name)), ("features", _features(inferred))]
    if log.arguments:
        body.append(("log", log))
    every = timedelta(seconds=inferred.pace.every)
    body.append(("every", _span(every)))
    if every >= timedelta(hours=3):
        body.append(("rehearse", _span(timedelta(seconds=rounded(min(20 * inferred.pace.every, 365 * DAY))))))
    if inferred.pace.fewest != 500:
        body.append(("fewest", str(inferred.pace.fewest)))
    declared = ""
    if inferred.columns:
        declared = (
            f"COLUMNS = {_written(_tuple([_column(column) for column in inferred.columns]), len('COLUMNS = '))}\n\n"
        )
    surface = f"SURFACE = {_written(Call('Surface', tuple(body)), len('SURFACE = '))}\n"
    text = declared + surface
    about = f'"""The surface {name}, as millrace init takes its log to be: change what it got wrong."""'
    return f"{about}\n\n{_imports(text)}\n\n{text}"


def _features(inferred: Inferred) -> Code:
    columns = "COLUMNS" if inferred.columns else "()"
    arguments: list[tuple[str, Code]] = [("columns", columns)] if inferred.columns else []
    arguments.append(
        ("labels", _tuple([_of_fields(label, Label("click"), always=("kind",)) for label in inferred.labels]))
    )
    arguments.append(("families", _counters(columns, inferred.pace)))
    arguments.append(("base_rate", _rate(inferred.pace)))
    if inferred.pace.lives.short >= HOUR:
        arguments.append(("tick", "60.0"))
    return Call("Features", tuple(arguments))


def _counters(columns: str, pace: Pace) -> Code:
    """The families, at the log's pace."""
    spans = tuple((name, _seconds(rounded(getattr(pace.lives, name)))) for name in ("short", "long", "user"))
    return Call("standard", (("", columns), *spans, ("rate", _rate(pace))))


def _rate(pace: Pace) -> str:
    return f"{min(max(pace.lives.rate, 1e-4), 0.9):.2g}"


def _column(column: Column) -> Code:
    """With its first argument bare, as they are written."""
    arguments: list[tuple[str, Code]] = [("", quoted(column.name))]
    if column.of != "request":
        arguments.append(("of", quoted(column.of)))
    if column.column != column.name:
        arguments.append(("column", quoted(column.column)))
    separator = getattr(column, "separator", None)
    if separator is not None:
        arguments.append(("separator", quoted(separator)))
    return Call(type(column).__name__, tuple(arguments))


BARE = {"Label": ("kind",), "FromRow": ("kind",), "FromEvent": ("kind", "event"), "Log": ()}
"""Fields that are written without their names."""


def _of_fields(value: Label | Log | FromRow | FromEvent, plain: object = None, always: tuple[str, ...] = ()) -> Call:
    """A call with the fields that are not as they are by default."""
    name = type(value).__name__
    bare = BARE[name]
    arguments = list[tuple[str, Code]]()
    for field in fields(value):
        own = getattr(value, field.name)
        if own == field.default and field.default is not MISSING and field.name not in always:
            continue
        arguments.append(("" if field.name in bare else field.name, _value(own)))
    return Call(name, tuple(arguments))


def _value(value: object) -> Code:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, timedelta):
        return _span(value)
    if isinstance(value, tuple):
        return _tuple([_value(each) for each in value])
    if isinstance(value, Label | FromRow | FromEvent):
        return _of_fields(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return repr(value)


def _tuple(values: list[Code]) -> Code:
    return Call("", tuple(("", value) for value in values))


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    for unit, length in (("days", DAY), ("hours", HOUR), ("minutes", MINUTE)):
        if seconds >= length and seconds % length == 0:
            return f"timedelta({unit}={seconds / length:.0f})"
    return f"timedelta(seconds={seconds:g})"


def _seconds(seconds: float) -> str:
    for name, length in (("DAY", DAY), ("HOUR", HOUR), ("MINUTE", MINUTE)):
        if seconds >= length and seconds % length == 0:
            return name if seconds == length else f"{seconds / length:.0f} * {name}"
    return f"{seconds:.1f}"


def quoted(text: str) -> str:
    """A Python literal of any text, in double quotes where it holds none."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal.startswith("'") and '"' not in text else literal


def _written(code: Code, before: int, indent: int = 0) -> str:
    """``before``: characters on the line already; one more is for the comma after."""
    flat = _flat(code)
    if isinstance(code, str) or before + len(flat) + 1 <= WIDE:
        return flat
    inner = indent + 4
    single = ", ".join(_argument(name, _flat(value)) for name, value in code.arguments)
    if len(code.arguments) > 1 and inner + len(single) <= WIDE and code.name:
        return f"{code.name}(\n{' ' * inner}{single}\n{' ' * indent})"
    lines = [
        f"{' ' * inner}{_argument(name, _written(value, inner + len(_argument(name, '')), inner))},"
        for name, value in code.arguments
    ]
    return "\n".join((f"{code.name}(", *lines, f"{' ' * indent})"))


def _flat(code: Code) -> str:
    if isinstance(code, str):
        return code
    inside = ", ".join(_argument(name, _flat(value)) for name, value in code.arguments)
    return f"{code.name}({inside}{',' if not code.name and len(code.arguments) == 1 else ''})"


def _argument(name: str, value: str) -> str:
    return f"{name}={value}" if name else value


IMPORTED = (
    ("features.declare.columns", ("Id", "Number", "Tags", "Text")),
    ("features.declare.families", ("DAY", "HOUR", "MINUTE")),
    ("features.declare.features", ("Features",)),
    ("features.declare.labels", ("Label",)),
    ("features.declare.log", ("FromEvent", "FromRow", "Log")),
    ("features.declare.standard", ("standard",)),
    ("flows.surface", ("Surface",)),
)


def _imports(text: str) -> str:
    """What the text needs. A word that stands only in a literal does no harm but an unused import: literals are cut."""
    import io
    import tokenize

    used = {
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.NAME
    }
    lines = [
        f"from {module} import {', '.join(there)}"
        for module, names in IMPORTED
        if (there := [name for name in names if name in used])
    ]
    return "\n".join((["from datetime import timedelta", ""] if "timedelta" in used else []) + lines)
