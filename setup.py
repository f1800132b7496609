"""What pyproject.toml cannot say: the two linked folders, and what is compiled where it can be."""

import os

from setuptools import Extension, find_packages, setup

HOT = ("folds", "moment", "order", "outlet", "source", "steps")
"""Modules of streamkit/engine/hot: Python that is compiled as well, with the types of its .pxd."""

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
    extra_compile_args=["-O3"],
    optional=True,  # no compiler: the install succeeds and the pure-Python codec serves
)

hot = [
    Extension(
        f"streamkit.engine.hot.{name}",
        [f"streamkit/engine/hot/{name}.py"],
        extra_compile_args=["-O3"],
        optional=True,
    )
    for name in HOT
]

setup(
    packages=packages,
    package_dir=package_dir,
    ext_modules=[] if os.environ.get("STREAMKIT_PURE") else [codec, *hot],
)
