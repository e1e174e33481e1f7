"""The columns of a data set of the hub, and the classes in its schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.checked import numbered_categories
from synthaug.pipeline.formats.validation import is_name

_IMAGE = ("image", "img", "pixel_values")
_OBJECTS = ("objects", "annotations", "faces")
_BOX = ("bbox", "bboxes", "boxes", "box")
_CATEGORY = ("category", "categories", "category_id", "label", "labels", "class", "classes")
_CROWD = ("iscrowd", "is_crowd")
_KNOWN = ("area", "id", "bbox_id", "segmentation")


@dataclass(frozen=True)
class Columns:
    """The names of the columns, and the classes that the schema lists."""

    image: str
    objects: str  # "" = boxes and categories are columns themselves
    box: str
    category: str
    crowd: str
    categories: tuple[Category, ...]
    image_id: bool
    has_size: bool
    others: tuple[str, ...]  # columns that are not read
    other_fields: tuple[str, ...]  # of objects

    @staticmethod
    def of(file: Path, schema: Any, listed: tuple[Category, ...]) -> Columns:
        """Return the columns of a file with this schema.

        `listed` are the classes that the user names; without any those of the schema count. Raises
        DatasetError, which names the file, where images, boxes or categories are not there.
        """
        if b"synthaug" in (schema.metadata or {}):
            raise DatasetError(f"{file}: synthaug wrote this table; read it as hf: or parquet:")
        names = schema.names
        image = _one_of(names, _IMAGE)
        objects = _one_of(names, _OBJECTS)
        inner = names
        if objects:
            inner = _field_names(schema.field(objects).type)
        box = _one_of(inner, _BOX)
        category = _one_of(inner, _CATEGORY)
        if not image or not box or not category:
            raise DatasetError(
                f"{file}: no data set of objects: it needs a column 'image' and a column 'objects' "
                f"with 'bbox' and 'category'; there are {', '.join(names)[:200]}"
            )
        used = {image, objects or "", "image_id", "width", "height"}
        used_inner = {box, category, _one_of(inner, _CROWD), *_KNOWN}
        if not objects:
            used |= used_inner
        return Columns(
            image,
            objects,
            box,
            category,
            _one_of(inner, _CROWD),
            listed or _classes(schema, objects, category),
            "image_id" in names,
            "width" in names and "height" in names,
            tuple(name for name in names if name not in used),
            tuple(name for name in inner if objects and name not in used_inner),
        )

    def to_read(self, with_images: bool) -> list[str]:
        """Return the columns of a pass over the rows."""
        names = [self.objects] if self.objects else [self.box, self.category]
        if not self.objects and self.crowd:
            names.append(self.crowd)
        if self.image_id:
            names.append("image_id")
        if self.has_size:
            names += ["width", "height"]
        if with_images:
            names.append(self.image)
        return names


def _one_of(names: Any, wanted: tuple[str, ...]) -> str:
    return next((name for name in wanted if name in names), "")


def _field_names(kind: Any) -> list[str]:
    """Return the fields of a struct, or of the structs of a list."""
    if _is_list(kind):
        kind = kind.value_type
    return [field.name for field in kind] if pa.types.is_struct(kind) else []


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _classes(schema: Any, objects: str, category: str) -> tuple[Category, ...]:
    """Return the classes of the ClassLabel in the schema; none without it."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found: Any = described["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    keys = [category]
    if objects:
        keys = [objects, category]
    names = _class_names(found, keys)
    are_texts = all(is_name(name) for name in names)
    if names and are_texts and len(set(names)) == len(names):
        return numbered_categories(names)
    return ()


def _class_names(feature: Any, keys: list[str]) -> list[Any]:
    """Return the names of the ClassLabel that keys lead to, through lists at any step."""
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0], keys)
    if not isinstance(feature, dict):
        return []
    if keys and keys[0] in feature:
        return _class_names(feature[keys[0]], keys[1:])
    if "feature" in feature:
        return _class_names(feature["feature"], keys)
    if not keys and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        names: list[Any] = feature["names"]
        return names
    return []
