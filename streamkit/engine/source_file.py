"""A Python file of a user, imported as it is now."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import CodeType, ModuleType


class _AsItIs(SourceFileLoader):
    """Python takes the compiled code it has kept of a file for that of one as large that was saved
    in the same second: with another number in it, the app would run as it was before."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def import_file(path: str, name: str) -> ModuleType:
    """Import the file under this name; raises whatever the file does."""
    spec = spec_from_file_location(name, path, loader=_AsItIs(name, path))
    assert spec is not None and spec.loader is not None, "the loader is given"
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
