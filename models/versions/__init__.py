"""Model versions: files, deltas, lineage, the MLflow registry, the promotion records."""
