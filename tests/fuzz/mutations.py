"""Mutations of files: of their bytes, and of what they mean (trees, chunks, columns, headers).

A mutation takes the content of a file and a random generator and returns another content. It may
return something that is still right: what a reader must not do is break.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

OUTSIDE = "../outside/secret"  # the files that must never be read, without their suffix
Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64),
    *(0.5, -0.5, 1e-9, 1e38, 1e39, 1e308, float("nan"), float("inf"), -float("inf"), -0.0),
)
TEXTS = (
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "0",
        "1",
        "nan",
        "1e400",
        "true",
        "null",
        "\x00",
        "a\x00b",
        "\ud800",
    ),
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        f"{OUTSIDE}.png",
        f"{OUTSIDE}.txt",
        "~",
        "$HOME",
        "a" * 300,
    ),
    *(
        "file:///etc/passwd",
        "https://example.invalid/a.png",
        "a\nb",
        "\x1b[2J",
        "<script>",
        "{{7*7}}",
    ),
    *(
        "%s%s%n",
        "=1+1",
        "C:\\x.png",
        "con",
        "images",
        "/dev/zero",
        "/proc/self/environ",
        "\u202eabc",
    ),
)
TOKENS = (
    *(
        b"null",
        b"NaN",
        b"-1",
        b"1e999",
        b"{}",
        b"[]",
        b"[[[[[[[[",
        b'{"a":' * 40,
        b'"',
        b"\\",
        b",",
        b":",
    ),
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        b"\r",
        b"\n",
        b"\t",
        b" ",
        b"&",
        b"*",
        b"!",
        b"%",
    ),
    *(
        b"!!python/object/apply:os.system ['touch PWNED']",
        b"&a [*a]",
        b"<<: *a",
        b"---\n",
        b"${oc.env:HOME}",
    ),
    *(
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"&b;",
        b"<!ENTITY",
        b"<![CDATA[",
        b"]]>",
        b"<a>" * 60,
        b"</annotation>",
    ),
    *(
        b"0 0.5 0.5 0.1 0.1\n",
        b"1 2 3\n",
        b"nan nan nan nan",
        b"9" * 400,
        OUTSIDE.encode() + b".png",
    ),
)


# --- bytes ---


def of_bytes(data: bytes, random: Random) -> bytes:
    """Change, remove, repeat or insert some bytes."""
    changed = bytearray(data)
    if not changed:
        return random.choice(TOKENS)
    kind = random.randrange(7)
    at = _place(len(changed), random)
    if kind == 0:
        changed[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        changed[at] = random.randrange(256)
    elif kind == 2:
        del changed[at:]
    elif kind == 3:
        del changed[at : at + random.randrange(1, 40)]
    elif kind == 4:
        changed[at:at] = changed[at : at + random.randrange(1, 200)]
    elif kind == 5:
        changed[at:at] = random.choice(TOKENS)
    else:
        size = random.choice((1, 2, 4, 8))
        value = random.choice((0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**32 - 1, 2**63)) % 256**size
        changed[at : at + size] = value.to_bytes(size, random.choice(("little", "big")))
    return bytes(changed)


def _place(length: int, random: Random) -> int:
    """Return a position, often near the start or the end, where headers are."""
    at = random.randrange(length)
    near = random.randrange(4)
    if near == 0:
        return min(at, random.randrange(64))
    if near == 1:
        return max(at, length - 1 - random.randrange(min(64, length)))
    return at


# --- trees of JSON and YAML ---


def of_tree(tree: Any, random: Random) -> Any:
    """Return a copy of a tree with a value replaced, removed, repeated or moved."""
    tree = copy.deepcopy(tree)
    places = _places(tree)
    if not places:
        return _value(random)
    owner, key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0:
        del owner[key]
    elif kind == 1:
        owner[key] = copy.deepcopy(_at(random.choice(places)))
    elif kind == 2 and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    elif kind == 3 and isinstance(owner, dict):
        owner[random.choice(TEXTS)] = owner.pop(key)
    elif kind == 4:
        owner[key] = _other_type(owner[key], random)
    elif kind == 5 and isinstance(owner[key], (int, float)):
        owner[key] = owner[key] * random.choice((-1, 2, 10, 1000, 0.001)) + random.choice(
            (0, 1, 0.5)
        )
    else:
        owner[key] = _value(random)
    return tree


def _places(tree: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Return every place of a tree as its container and key."""
    if depth > 30:
        return []
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = list(range(len(tree)))
    places = []
    for key in keys:
        places.append((tree, key))
        places += _places(tree[key], depth + 1)
    return places


def _at(place: tuple[Any, Any]) -> Any:
    owner, key = place
    return owner[key]


def _value(random: Random) -> Any:
    kind = random.randrange(6)
    if kind < 2:
        return random.choice(NUMBERS)
    if kind < 4:
        return random.choice(TEXTS)
    deep: Any = 0
    for _ in range(random.choice((3, 60))):
        deep = [deep]
    values: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": {}}, [None], [1, "a"], deep)
    return random.choice(values)


def _other_type(value: Any, random: Random) -> Any:
    """Return a value as another type would spell it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return random.choice((str(value), [value], float(value), {"value": value}))
    if isinstance(value, str):
        return random.choice(
            ([value], value.upper(), f"{value} ", len(value), value.encode().hex())
        )
    if isinstance(value, list):
        return random.choice((dict(enumerate(map(str, value))), value[:1], value * 2, str(value)))
    if isinstance(value, dict):
        return random.choice((list(value.values()), list(value), str(value)))
    return value


def of_json(data: bytes, random: Random) -> bytes:
    """Change a value of a JSON file, or its bytes."""
    if random.random() < 0.25:
        return of_bytes(data, random)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    return json.dumps(of_tree(tree, random)).encode()


def of_yaml(data: bytes, random: Random) -> bytes:
    """Change a value of a YAML file, or its bytes."""
    if random.random() < 0.4:
        return of_bytes(data, random)
    try:
        tree = yaml.safe_load(data)
        return yaml.safe_dump(of_tree(tree, random)).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return of_bytes(data, random)


# --- text and XML ---


def of_lines(data: bytes, random: Random) -> bytes:
    """Change a word of a text of lines, or its bytes."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    words = lines[at].split(b" ")
    kind = random.randrange(5)
    if kind == 0 or not words:
        return of_bytes(data, random)
    place = random.randrange(len(words))
    if kind == 1:
        words[place] = str(random.choice(NUMBERS)).encode()
    elif kind == 2:
        words[place] = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    elif kind == 3:
        del words[place]
    else:
        words.insert(place, words[place])
    lines[at] = b" ".join(words)
    return b"\n".join(lines)


def of_xml(data: bytes, random: Random) -> bytes:
    """Change an element of an XML file, or its bytes."""
    if random.random() < 0.35:
        return of_bytes(data, random)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return of_bytes(data, random)
    elements = list(root.iter())
    parent = random.choice(elements)
    kind = random.randrange(6)
    if kind == 0 and len(parent):
        parent.remove(random.choice(list(parent)))
    elif kind == 1 and len(parent):
        parent.append(copy.deepcopy(random.choice(list(parent))))
    elif kind == 2:
        parent.tag = random.choice(("object", "bndbox", "xmin", "size", "name", "a", parent.tag))
    elif kind == 3:
        parent.append(copy.deepcopy(random.choice(elements)))
    elif kind == 4 and parent.attrib:
        parent.attrib[random.choice(list(parent.attrib))] = random.choice(TEXTS[:9])
    else:
        parent.text = str(random.choice((*NUMBERS, *TEXTS[:12])))
    text = ElementTree.tostring(root, "unicode")
    return text.encode("utf-8", "surrogatepass")


# --- files of numbers ---


def of_png(data: bytes, random: Random) -> bytes:
    """Change a chunk of a PNG and mend its checksum, or its bytes."""
    if random.random() < 0.3 or not data.startswith(b"\x89PNG"):
        return of_bytes(data, random)
    chunks = _chunks(data)
    if not chunks:
        return of_bytes(data, random)
    at = random.randrange(len(chunks))
    name, body = chunks[at]
    kind = random.randrange(6)
    if kind == 0:
        del chunks[at]
    elif kind == 1:
        chunks.insert(at, chunks[random.randrange(len(chunks))])
    elif kind == 2:
        name = random.choice(
            (b"IHDR", b"PLTE", b"IDAT", b"eXIf", b"iCCP", b"tRNS", b"zTXt", b"acTL")
        )
        chunks[at] = (name, body)
    elif kind == 3 and name == b"IHDR" and len(body) == 13:
        width, height = random.choice((0, 1, 7, 5000, 2**31 - 1)), random.choice((0, 1, 9, 5000))
        depth, color = random.choice((1, 2, 4, 8, 16, 3)), random.choice((0, 2, 3, 4, 6, 1))
        chunks[at] = (name, struct.pack(">IIBB", width, height, depth, color) + body[10:])
    elif kind == 4 and name == b"IDAT":
        with_changes = of_bytes(_unpacked(body), random)
        chunks[at] = (name, zlib.compress(with_changes))
    else:
        chunks[at] = (name, of_bytes(body, random))
    packed = [_chunk(name, body) for name, body in chunks]
    return data[:8] + b"".join(packed)


def _unpacked(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return body


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks = []
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def of_parquet(data: bytes, random: Random) -> bytes:
    """Change a value, a column or the metadata of a Parquet file, or its bytes."""
    if random.random() < 0.5:
        return of_bytes(data, random)
    try:
        table = pq.read_table(io.BytesIO(data))
        rows = table.to_pylist()
        metadata = dict(table.schema.metadata or {})
        kind = random.randrange(3)
        if kind == 0 and metadata:
            key = random.choice(list(metadata))
            metadata[key] = of_json(metadata[key], random)
        elif kind == 1:
            rows = of_tree(rows, random)
        else:
            name = random.choice(table.column_names)
            rows = [{key: row[key] for key in row if key != name} for row in rows]
        schema = table.schema if random.random() < 0.5 and kind != 2 else None
        changed = pa.Table.from_pylist(rows, schema).replace_schema_metadata(metadata)
        out = io.BytesIO()
        pq.write_table(changed, out)
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        AttributeError,
        KeyError,
    ):
        return of_bytes(data, random)
    return out.getvalue()


def of_safetensors(data: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file, or its bytes."""
    if random.random() < 0.35 or len(data) < 9:
        return of_bytes(data, random)
    (length,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    changed = of_tree(header, random)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and metadata and random.random() < 0.5:
        key = random.choice(list(metadata))
        inner = of_json(str(metadata[key]).encode("utf-8", "replace"), random)
        changed = header | {"__metadata__": metadata | {key: inner.decode("utf-8", "replace")}}
    text = json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def of_zip(data: bytes, random: Random) -> bytes:
    """Change a member of a zip file and pack it again, or its bytes."""
    if random.random() < 0.3:
        return of_bytes(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        names = [name for name in members if name.endswith(".pkl")] or list(members)
        name = random.choice([*names, random.choice(list(members))])
        suffix = name[name.rfind(".") :]
        members[name] = BY_SUFFIX.get(suffix, of_bytes)(members[name], random)
        if random.random() < 0.1:
            members[random.choice(TEXTS)] = members.pop(name)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for key, content in members.items():
                archive.writestr(key, content)
    except (zipfile.BadZipFile, ValueError, OSError, IndexError, NotImplementedError, zlib.error):
        return of_bytes(data, random)
    return out.getvalue()


BY_SUFFIX: dict[str, Mutation] = {
    ".json": of_json,
    ".yaml": of_yaml,
    ".yml": of_yaml,
    ".xml": of_xml,
    ".txt": of_lines,
    ".names": of_lines,
    ".png": of_png,
    ".parquet": of_parquet,
    ".safetensors": of_safetensors,
    ".pth": of_zip,
    ".zip": of_zip,
}


def mutate(name: str, data: bytes, random: Random) -> bytes:
    """Return the content of the file `name`, mutated one to four times."""
    suffix = name[name.rfind(".") :] if "." in name else ""
    mutation = BY_SUFFIX.get(suffix, of_bytes)
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        data = mutation(data, random)
    return data
