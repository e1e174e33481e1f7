"""The columns on disk are the fields of scenes, objects and provenance, none forgotten."""

from __future__ import annotations

from dataclasses import fields

from synthaug.pipeline.core.scene import Objects, Provenance, Relation, Scene
from synthaug.pipeline.formats.parquet.schema import (
    BLOBS,
    OBJECTS,
    PROVENANCE,
    RELATIONS,
    SCENE_GRAPHS,
    SCHEMA,
    leaves,
)


def test_every_field_of_a_scene_has_its_column() -> None:
    assert {field.name for field in fields(Scene)} == set(SCENE_GRAPHS.names)
    assert set(SCENE_GRAPHS.names) - set(SCHEMA.names) == {RELATIONS.name}
    assert [part.name for part in RELATIONS.type.value_type] == list(Relation._fields)
    assert [field.name for field in fields(Provenance)] == [field.name for field in PROVENANCE]
    assert {field.name for field in fields(Objects)} == {name for name, _ in OBJECTS.values()}
    assert set(OBJECTS) == {field.name for field in SCHEMA.field("objects").type}


def test_leaves_are_the_columns_as_parquet_spells_them() -> None:
    assert len(set(leaves())) == len(leaves()) == 1 + 2 + 2 + 13 + 2 + 5 + 3
    assert set(leaves()) - set(leaves(SCHEMA)) == {
        f"relations.list.element.{part}" for part in Relation._fields
    }
    assert set(BLOBS) <= set(leaves())
    assert "objects.bbox.list.element.list.element" in leaves()
