"""`hfdn serve` (extra: serve): pictures upscaled over HTTP, and a page for people."""
