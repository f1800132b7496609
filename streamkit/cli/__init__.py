"""The command `streamkit`."""


def main() -> None:
    """Run the command line; the heavy imports wait until somebody asks for it."""
    try:
        from streamkit.cli.main import app

        app(prog_name="streamkit")
    except KeyboardInterrupt:  # while that was being imported
        raise SystemExit(130) from None
