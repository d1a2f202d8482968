"""Names: of a surface's registered model in MLflow, and of its versions in every record."""


def model_name(surface: str) -> str:
    """Name of a surface's registered model, and of its experiment."""
    return f"millrace-{surface}"


def version_name(number: str, update_id: int, taken: bool) -> str:
    """The name of a version in every record: its number in MLflow.

    ``taken``: that number is another version's already, since MLflow counts anew once its registered model was deleted
    or its database went back to an older state. The update that made it then distinguishes the two: ``3-41``.
    """
    return f"{number}-{update_id}" if taken else number


def number_of(version: str) -> str:
    """The number in MLflow of a version by its name."""
    return version.partition("-")[0]
