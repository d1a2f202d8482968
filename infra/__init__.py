"""Where Millrace runs: settings, PostgreSQL and its migrations, the embedded stack."""
