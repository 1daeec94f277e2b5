"""The configuration of an HFDN: the scale and the paper's ablations."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from hfdn_deploy.errors import CheckpointError

# Key of the configuration, which is JSON, in a checkpoint's metadata.
METADATA_KEY = "hfdn"

_CHOICES: dict[str, tuple[object, ...]] = {
    "scale": (2, 3, 4),
    "attention": ("none", "ca", "sa", "ca+sa"),
    "dense": ("plain", "concat", "adaptive"),
    "supervision": ("d", "s+d", "s+m+d"),
}


@dataclass(frozen=True)
class HFDNConfig:
    """The configuration of an HFDN; the defaults are the full network of the paper.

    Raises:
        CheckpointError: a value is not one of those named below.
    """

    scale: int = 4
    """Upscaling factor: 2, 3 or 4."""
    attention: str = "ca+sa"
    """Attention block: "none", "ca" (channel), "sa" (spatial) or "ca+sa"."""
    dense: str = "adaptive"
    """Dense units: "plain" (no concatenation), "concat" (no weights) or "adaptive"."""
    supervision: str = "s+m+d"
    """Reconstructed levels: "d" (deep), "s+d" (shallow too) or "s+m+d" (middle too)."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices or type(value) is not type(choices[0]):
                known = ", ".join(str(choice) for choice in choices)
                raise CheckpointError(f"HFDN has no {name} {value!r}; choose one of {known}.")

    @property
    def levels(self) -> tuple[str, ...]:
        """The supervised levels in order, each "s", "m" or "d"; the last is the output."""
        return tuple(self.supervision.split("+"))

    def to_dict(self) -> dict[str, int | str]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "HFDNConfig":
        """Return the configuration of a result of `to_dict`.

        Raises:
            CheckpointError: a field is missing, unknown or has an unknown value.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping):
            raise CheckpointError("The network configuration is not a mapping of names to values.")
        if set(values) != names:
            difference = ", ".join(sorted(set(values) ^ names))
            raise CheckpointError(f"The network configuration is wrong in: {difference}.")
        return cls(**values)  # type: ignore[arg-type]
