"""Entry point of `python -m export`."""

from hfdn_deploy.interruption import end_at_signals

end_at_signals()  # before anything else is imported

if __name__ == "__main__":
    from hfdn_deploy.cli import start

    raise SystemExit(start("export.cli"))
