"""How a surface explores: what is shown beside the best, with the exact chance of each place."""
