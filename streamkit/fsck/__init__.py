"""Looking at a log's files from outside: what they hold, what is wrong with them, and repairing it.

`dump.py` makes the bytes of any file readable. `check.py` holds every file against the others;
`repair.py` sets right what can be. docs/fsck.md has what is looked at and what is done.
"""
