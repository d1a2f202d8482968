"""One file a surface: events, labels, features, model, update, gate and schedule."""
