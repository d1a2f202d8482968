"""What people decide: approve, reject, roll back, release; who may, and on what evidence."""
