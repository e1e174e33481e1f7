"""Config: the published sizes are allowed, impossible settings name their key in one line."""

from __future__ import annotations

import pytest

from synthaug.generators.lostgan.config import VERSIONS, WIDTHS, Config


@pytest.mark.parametrize("version", VERSIONS)
def test_every_size_of_a_version_has_its_widths(version: int) -> None:
    for resolution in VERSIONS[version]:
        config = Config(version=version, resolution=resolution)
        assert config.size == (resolution, resolution)
        assert 4 * 2 ** (len(WIDTHS[resolution]) - 1) == resolution


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": 3}, "version: 3 is not 1 or 2"),
        ({"version": 1, "resolution": 256}, "resolution: 256 is not one of"),
        ({"early_pool": True}, "early_pool: only the 64 pixel"),
        ({"refine_stages": 5}, r"refine_stages: 5 is not -1 \(all\) to 4"),
        ({"refine_stages": -2}, "refine_stages: -2"),
        ({"normalization": "batch"}, "normalization: 'batch' is not isla or spade"),
        ({"embedding": 0}, "embedding: 0 is out of range; give 1 or more"),
        ({"lambda_perceptual": -1.0}, "lambda_perceptual: -1.0 is out of range; give 0 or more"),
    ],
)
def test_impossible_settings_name_their_key(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Config(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
