"""Two towers and what was clicked lately: candidates for requests that name none."""
