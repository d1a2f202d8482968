"""The errors a person can cause or mend. The command line prints them in one line; every other error is left to fly.

::

    MillraceError             what happened and what to do; exit code 1
    ├── SettingsError         a MILLRACE_* variable that cannot be used; exit code 2
    ├── SessionRefused        the database sets for our sessions what would change rows
    ├── DatabaseOfAnotherVersion  a newer Millrace has migrated it
    └── StackError            the embedded stack cannot start, or lost a service
        └── PortTaken         somebody else listens on a service's port
"""


class MillraceError(Exception):
    """Something a person can mend; the message says how."""

    exit_code = 1


class SettingsError(MillraceError):
    """A setting that cannot be used; the message names the variable and its value."""

    exit_code = 2


class SessionRefused(MillraceError):
    """The database sets for our sessions what would change rows, or lose them; the message names the setting."""


class DatabaseOfAnotherVersion(MillraceError):
    """The database was migrated by a Millrace that is newer than this one."""


class StackError(MillraceError):
    """The embedded stack cannot start, or lost a service."""


class PortTaken(StackError):
    """Somebody else listens on a service's port."""
