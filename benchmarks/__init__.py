"""Each path of streamkit beside its peer or its limit, measured in the same run.

`python -m benchmarks` runs them all, `python -m benchmarks.<name>` runs one.
"""
