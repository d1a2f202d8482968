"""Champion against challenger, drift, skew, off-policy value, cost: all that is measured."""
