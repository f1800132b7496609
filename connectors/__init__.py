"""Ready-made connectors, on streamkit's public API only: anybody could have written them."""

if __name__ != "streamkit.connectors":
    raise ImportError(
        f"imported as {__name__!r}; write `import streamkit.connectors`: under the other name "
        "every class would exist twice"
    )
