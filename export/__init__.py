"""Checkpoint to verified bundle: `python -m export CHECKPOINT -o BUNDLE`."""
