"""The drill: faults planted into windows of a log, and what the gate says of them."""
