"""What pyproject.toml cannot say: the two linked folders, and what is compiled where it can be."""

import os
import sys

from setuptools import Extension, find_packages, setup

COMPILED = (
    "hot/folds",
    "hot/moment",
    "hot/order",
    "hot/outlet",
    "hot/source",
    "hot/steps",
    "operators/as_of_join",
    "operators/interval_join",
    "operators/join_side",
    "operators/window_rows",
    "operators/window_sessions",
)
"""Modules of streamkit/engine that are compiled as they are, with the types of a .pxd if any."""

OPTIONS = ["-O3", "-g0"]
"""For the compiler: what debuggers want takes it a third of its time."""

packages = find_packages(include=["streamkit", "streamkit.*"])
package_dir = {"": "."}
for folder in ("connectors", "processors"):
    name = f"streamkit.{folder}"
    if name not in packages:  # a checkout whose symlinks were lost
        package_dir[name] = folder
        packages += [name, *(f"{name}.{sub}" for sub in find_packages(folder))]

codec = Extension(
    "streamkit.codec._native",
    ["streamkit/codec/_native.pyx"],
    extra_compile_args=OPTIONS,
    optional=True,  # no compiler: the install succeeds and the pure-Python codec serves
)

direct = Extension(
    "streamkit.log._direct",
    ["streamkit/log/_direct.pyx"],
    extra_compile_args=OPTIONS,
    optional=True,
)

compiled = []
for path in COMPILED:
    module = Extension(
        f"streamkit.engine.{path.replace('/', '.')}",
        [f"streamkit/engine/{path}.py"],
        extra_compile_args=OPTIONS,
        optional=True,
    )
    module.cython_directives = {"annotation_typing": False}  # annotations are for mypy
    compiled.append(module)

extensions = [codec, *compiled]
if sys.platform == "linux":  # elsewhere fdatasync is another call, or none
    extensions.append(direct)

setup(
    packages=packages,
    options={"build_ext": {"parallel": True}},
    package_dir=package_dir,
    ext_modules=[] if os.environ.get("STREAMKIT_PURE") else extensions,
)
