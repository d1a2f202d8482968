"""The fold: decaying counters over the log, the state they make, and the rates read from it."""
