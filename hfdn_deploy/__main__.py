"""Entry point of `hfdn` and of `python -m hfdn_deploy`."""

from hfdn_deploy.interruption import end_at_signals

end_at_signals()  # before anything else is imported


def main() -> int:
    """Run the command line and return its exit code."""
    from hfdn_deploy.cli import start

    return start("hfdn_deploy.cli.commands")


if __name__ == "__main__":
    raise SystemExit(main())
