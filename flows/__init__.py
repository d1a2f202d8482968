"""What runs, and when: Prefect flows, surfaces, the command line."""
