"""What happens to each event: compiled where there is a compiler, else the same files as Python.

Beside each module a `.pxd` says for the compiler what has which type. Here is only what most events
meet, and what has to be quick; operators build their steps of it, and of functions where something
is unusual. Some operators are compiled as well, without types: `setup.py` has the list. Who changes
one of these files has to build it again to see the change.
"""
