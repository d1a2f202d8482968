"""Benches: what this program promises, measured on the machine it runs on."""
