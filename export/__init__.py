"""Export of checkpoints to verified bundles: `python -m export CHECKPOINT -o BUNDLE`."""
