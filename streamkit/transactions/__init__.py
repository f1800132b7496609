"""Idempotent and transactional producers: what their bytes mean and what may follow what.

No file is opened here and no clock is read. `producers.py` is one partition's view: sequences,
epochs, open transactions. `transaction.py` and `coordinator.py` are the other side: one
transactional id over all its partitions. docs/transactions.md has both together.
"""
