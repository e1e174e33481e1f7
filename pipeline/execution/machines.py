"""What a machine of a cluster sees of a run's folder and images, and its versions."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder

PACKAGES = ("synthaug", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class View:
    """What one machine sees."""

    digest: str  # SHA-256 of the file; "" = it is not there
    versions: Mapping[str, str]  # of Python and the packages that results depend on
    missing: tuple[str, ...] = ()  # images that are not there


def view_of(uri: str, name: str, images: Sequence[str] = ()) -> View:
    """Look at a file of a folder, and at some images, from this machine."""
    folder = Folder.at(uri)
    digest = ""
    if folder.exists(name):
        digest = folder.sha256(name)
    missing = tuple(path for path in images if not Path(path).is_file())
    return View(digest, versions(), missing)


def some_images(tables: Iterable[Dataset]) -> list[str]:
    """Return the paths of the first and the last image of each table.

    Where they are files.
    """
    paths = []
    for table in tables:
        ends = {0, len(table) - 1} if len(table) else set()
        for index in sorted(ends):
            with suppress(DatasetError):  # a broken scene is told when all are read
                image = table[index].image
                if image.data is None and image.path:
                    paths.append(str(Path(image.path).absolute()))
    return paths


def versions() -> dict[str, str]:
    """Return the versions of Python (without its last part) and of the packages.

    Without what says how a package was built: a GPU's torch and a CPU's work together.
    """
    major, minor, _ = platform.python_version_tuple()
    found = {"Python": f"{major}.{minor}"}
    for package in PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "none"
    return found


def compare(here: View, there: View, address: str, uri: str, name: str) -> None:
    """Raise JobError where a machine's view differs from that of this one."""
    for package, own in here.versions.items():
        other = there.versions.get(package, "none")
        if other != own:
            raise JobError(
                f"cluster.address: machine {address} has {package} {other}, this one {own}; "
                "install the same on all machines"
            )
    if there.digest != here.digest:
        raise JobError(
            f"output: machine {address} does not see {name} in {uri} as this one does; give a "
            "folder that all machines share, or s3://bucket/prefix"
        )
    for path in there.missing:
        if path not in here.missing:
            raise JobError(
                f"data.root: machine {address} does not see the image {path}; have the data in a "
                "folder that all machines share, or as parquet:s3://bucket/prefix"
            )
