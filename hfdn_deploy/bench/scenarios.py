"""The scenarios of MLPerf's load generator, apart from what runs them, which is heavy."""

SCENARIOS = {"single-stream": "SingleStream", "offline": "Offline", "server": "Server"}
