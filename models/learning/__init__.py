"""The incremental learner: a model is fine-tuned on a window and becomes its own challenger."""
