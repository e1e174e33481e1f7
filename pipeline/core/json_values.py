"""Names of what is written as JSON, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]  # an object whose values JSON knows
Manifest = Mapping[str, Any]  # of a step: its counts and digests, read only


def json_digest(value: Any) -> str:
    """Return the sha256 of a JSON value; the order of an object's keys does not count."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
