"""The steps of a topology, as data.

Nodes are compared by identity: two filters with the same function are two filters. Each has one
parent, so that they form trees under sources. A new kind of step is a node here, a method of a
stream, and a module in `engine/operators`; what else has to know of it, it says itself (`Node`).
"""
