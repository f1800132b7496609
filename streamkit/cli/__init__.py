"""The command `streamkit`."""


def main() -> None:
    """Run the command line; the heavy imports wait until somebody asks for it."""
    from streamkit.cli.main import app

    app(prog_name="streamkit")
