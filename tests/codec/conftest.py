"""Every test that takes `codec` runs over the Python codec and over the compiled one."""

import warnings
from types import ModuleType

import pytest

from streamkit.codec import pure

try:
    from streamkit.codec import _native as native
except ImportError:
    native = None

not_built = pytest.mark.skipif(native is None, reason="the compiled codec is not built")


with warnings.catch_warnings():
    # kafka-python reads its schemas in a way that Python 3.11 calls deprecated, once, at import.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401


@pytest.fixture(scope="module", params=["pure", pytest.param("native", marks=not_built)])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return pure if request.param == "pure" else native
