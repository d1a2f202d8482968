"""Who may speak to serving, and about which impressions.

::

    keys        API keys: the table, and how one is made and revoked
    callers     a request's key -> what its caller may do
    guard       the same before every route, and the scope that a path needs
    signing     impression ids that nobody else can make
    secrets     what they are signed with: the table
    copies      keys and secrets on the local disk, for a restart while the database is away
    follow      the thread that follows both tables
"""
