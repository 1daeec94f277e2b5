"""Entry point of `python -m training`."""

from hfdn_deploy.interruption import end_at_signals

end_at_signals()  # before the slow imports

if __name__ == "__main__":
    from hfdn_deploy.cli import start

    raise SystemExit(start("training.cli"))
