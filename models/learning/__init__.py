"""The incremental learner: a model takes in a window and becomes its own challenger."""
