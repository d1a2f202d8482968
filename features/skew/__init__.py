"""Training-serving skew: rows as served against rows as the log gives them."""
