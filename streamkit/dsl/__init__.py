"""Streams, tables and windows: describe a topology as data, run nothing."""
