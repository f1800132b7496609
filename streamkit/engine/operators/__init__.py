"""What the nodes of a topology do: a module for each kind.

Each has `build(node, key, site)`, which gives the step of a node whose events have keys of serde
`key`. Nodes become nested functions, so that an event costs a few calls and no lookup.
"""
