"""Keyed state of tasks: in memory, beyond a budget on disk; its changelog is the truth."""
