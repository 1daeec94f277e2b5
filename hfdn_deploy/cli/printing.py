"""Facts, for people and for programs."""

import json
from typing import Any


def print_facts(facts: dict[str, Any], as_json: bool, indent: str = "") -> None:
    """Print facts as JSON, or as lines a person reads, without the long lists."""
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            print(label)
            print_facts(value, as_json, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
            print(f"{label} {len(value)} (see --json)")
        elif isinstance(value, list | tuple):
            print(label, ", ".join(map(str, value)) or "none")
        else:
            print(label, "-" if value is None else value)
