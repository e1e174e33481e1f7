"""What a machine of a cluster sees of a run's folder, and the versions it has."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder

PACKAGES = ("synthaug", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class View:
    """What one machine sees."""

    digest: str  # SHA-256 of the file; "" = it is not there
    versions: Mapping[str, str]  # of Python and the packages that results depend on


def view_of(uri: str, name: str) -> View:
    """Look at a file of a folder from this machine."""
    folder = Folder.at(uri)
    digest = ""
    if folder.exists(name):
        digest = folder.sha256(name)
    return View(digest, versions())


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
