"""The networks that rank, and the linear part that each stands on."""
