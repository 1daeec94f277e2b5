"""The scenarios of MLPerf's load generator, without the heavy imports of their code."""

SCENARIOS = {"single-stream": "SingleStream", "offline": "Offline", "server": "Server"}
