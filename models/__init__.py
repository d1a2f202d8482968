"""What learns and what serves. The core imports torch and numpy, nothing else."""
