"""What lies in the place of a file that was to be there: an empty file, a pointer, a web page."""

from __future__ import annotations


def stand_in(head: bytes) -> str:
    """Return what a file is in the place of another, by its first bytes; else ""."""
    start = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if not head.strip(b"\0"):
        return "the file holds nothing but zeros"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: get the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page: the download failed"
    return ""
