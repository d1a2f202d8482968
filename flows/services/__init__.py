"""The long-lived processes: the schedule, the fold, the live watch, the desk."""
