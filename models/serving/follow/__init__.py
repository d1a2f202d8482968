"""What serving keeps up with: the log, the promotions, the items alive."""
