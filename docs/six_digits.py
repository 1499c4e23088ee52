"""What the records of docs/results keep of a number."""

from typing import Any

import numpy as np


def six_digits(value: Any) -> Any:
    """Round all numbers: more digits differ between machines. What is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): six_digits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [six_digits(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
