"""What processes say they did to a log, and whether one log can have let them (docs/testing.md).

Core: no file is opened here. After the Kafka workload of Jepsen, whose names of anomalies it uses.
"""
