"""Names of what is written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]  # an object whose values JSON knows
Manifest = Mapping[str, Any]  # of a step: its counts and digests, read only
