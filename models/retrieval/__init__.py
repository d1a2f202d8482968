"""Two towers and recent clicks: candidates for requests that name none."""
