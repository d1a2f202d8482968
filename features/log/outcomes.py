"""What may become of an event; in a row's outcome the reason stands instead of ``refused``."""

ACCEPTED = "taken"
ALREADY_THERE = "already there"
REFUSED = "refused"
