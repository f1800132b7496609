"""What happens to each event: compiled where there is a compiler, else the same files as Python.

Beside each module a `.pxd` says for the compiler which type has what. Here is only what most events
meet, and what has to be quick; operators build their steps of it, and of functions where something
is unusual. Who changes one of these files has to build it again to see the change.
"""
