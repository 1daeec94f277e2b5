"""Train HFDN: `python -m training --scale 4 --output runs/x4`."""
