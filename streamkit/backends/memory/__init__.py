"""A log in the memory of one process, for tests of apps: fast, and gone with it."""
