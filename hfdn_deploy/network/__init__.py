"""HFDN in PyTorch (extra: torch): configuration, network, checkpoints, complexity."""
