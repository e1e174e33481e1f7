"""The inputs that are mutated: sets in every format, pictures, checkpoints, a job, a layout.

A format of FORMATS comes here by itself, through its sample of the contract tests; more sets of a
format stand in EXTRA.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, load_format
from tests.hard_scenes import boxed, masked
from tests.pipeline.formats.samples import CAR, Thing, sample_table, write_sample

WIDTH, HEIGHT = 40, 30
SECRET = "SECRET-MARKER-7f3a"  # in the text that no message may repeat


@dataclass(frozen=True)
class Target:
    """An input in a folder of its own, and what reads it."""

    name: str
    kind: str  # dataset | import | names | checkpoint | job | layout
    argument: str  # the reference, or the file


def build(folder: Path) -> list[Target]:
    """Write every input below a folder and return them."""
    targets = []
    table = sample_table(
        [Thing((2, 3, 12, 20)), Thing((20, 5, 39, 29), CAR)], [Thing((0, 0, 9, 9))], []
    )
    for name in FORMATS:
        if name == "toy":
            continue  # it reads no file
        if name in EXTRA_ONLY:
            continue
        reference = write_sample(name, table, folder / name)
        targets.append(Target(name, "dataset", reference))
    for title, write in EXTRA.items():
        home = folder / title
        home.mkdir()
        targets.append(write(title, home))
    return targets


def _table_in(name: str, path: str, table: str) -> Callable[[str, Path], Target]:
    def write(title: str, home: Path) -> Target:
        scenes = {"masked": masked, "boxed": boxed}[table]()
        vars(load_format(name))["write"](scenes, Folder.at(home))
        return Target(title, "dataset", f"{name}:{path}")

    return write


def _picture(seed: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def _saved(image: Image.Image, file: Path, **options: object) -> None:
    image.save(file, **options)


def _foreign_coco(title: str, home: Path) -> Target:
    """A COCO file of many tools: polygons, run lengths, crowds, angles, ids of many kinds."""
    for key in (1, 2, 3):
        _saved(_picture(key), home / f"{key}.{'png' if key == 2 else 'jpg'}")
    box = [4.5, 5, 20, 15]
    polygon = [4.5, 5, 24.5, 5, 24.5, 20, 4.5, 20]
    rows = [
        {"bbox": box, "segmentation": [polygon, [6, 6, 9, 6, 9, 9]], "area": 300},
        {"bbox": box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [150, 600, 450]}},
        {"bbox": [0, 0, 40, 30], "iscrowd": 1, "segmentation": None},
        {"bbox": box, "attributes": {"rotation": 30.0, "occluded": True}, "segmentation": []},
        {"bbox": [0.2, 0.1, 39.8, 29.9], "keypoints": [1, 2, 2], "num_keypoints": 1},
    ]
    annotations = []
    for number, row in enumerate(rows, start=1):
        ids = {"id": number, "image_id": 1 + number % 3, "category_id": 1 + number % 2}
        annotations.append(ids | row)
    document = {
        "info": {"description": "written by synthaug"},
        "licenses": [],
        "images": [
            {
                "id": key,
                "file_name": f"{key}.{'png' if key == 2 else 'jpg'}",
                "width": WIDTH,
                "height": HEIGHT,
                "scene_id": f"s{key}",
            }
            for key in (1, 2, 3)
        ],
        "categories": [
            {"id": 1, "name": "cat", "supercategory": "animal"},
            {"id": 2, "name": "dog"},
        ],
        "annotations": annotations,
    }
    (home / "a.json").write_text(json.dumps(document))
    return Target(title, "dataset", "coco:a.json")


def _zipped_coco(title: str, home: Path) -> Target:
    """The same in a zip file."""
    _foreign_coco(title, home)
    files = sorted(home.iterdir())
    with zipfile.ZipFile(home / "set.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
            file.unlink()
    return Target(title, "dataset", "coco:set.zip/a.json")


def _foreign_yolo(title: str, home: Path, lines: str, extra: str = "") -> Target:
    (home / "images" / "train").mkdir(parents=True)
    (home / "labels" / "train").mkdir(parents=True)
    for key in (1, 2):
        _saved(_picture(key), home / "images" / "train" / f"{key}.jpg")
        (home / "labels" / "train" / f"{key}.txt").write_text(lines)
    (home / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: [cat, dog]\n{extra}")
    return Target(title, "dataset", "yolo:.")


def _yolo_polygons(title: str, home: Path) -> Target:
    return _foreign_yolo(
        title, home, "0 0.1 0.1 0.5 0.1 0.5 0.6 0.2 0.7\n1 0.6 0.6 0.9 0.6 0.8 0.9\n"
    )


def _yolo_pose(title: str, home: Path) -> Target:
    lines = "0 0.5 0.5 0.4 0.4 0.5 0.5 2 0.4 0.4 1\n"
    return _foreign_yolo(title, home, lines, "kpt_shape: [2, 3]\n")


def _foreign_voc(title: str, home: Path) -> Target:
    """The folder of labelImg: XML beside the pictures, no lists."""
    for key in (1, 2):
        _saved(_picture(key), home / f"{key}.jpg")
        (home / f"{key}.xml").write_text(
            f"<annotation verified='yes'><folder>x</folder><filename>{key}.jpg</filename>"
            f"<source><database>Unknown</database></source><size><width>{WIDTH}</width>"
            f"<height>{HEIGHT}</height><depth>3</depth></size><segmented>0</segmented>"
            "<object><name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>"
            "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>25.5</ymax></bndbox></object>"
            "<object><name>dog</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    return Target(title, "dataset", "voc:.?split=all")


def _pictures(title: str, home: Path) -> Target:
    """A picture of every kind, some of them turned by a tag."""
    turned = Image.Exif()
    turned[0x0112] = 6
    _saved(_picture(1), home / "plain.jpg")
    _saved(_picture(2), home / "turned.jpg", exif=turned)
    _saved(_picture(3), home / "progressive.jpg", progressive=True)
    _saved(_picture(4, "CMYK"), home / "cmyk.jpg")
    _saved(_picture(5), home / "plain.png", exif=turned)
    _saved(_picture(6, "P"), home / "palette.png", transparency=3)
    _saved(_picture(7, "LA"), home / "alpha.png")
    _saved(_picture(8, "1"), home / "bits.png")
    deep = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 50
    _saved(Image.fromarray(deep), home / "deep.png")
    _saved(Image.fromarray(deep), home / "deep.tif")
    _saved(_picture(9), home / "packed.tif", compression="tiff_lzw")
    _saved(_picture(10), home / "packed.webp")
    _saved(_picture(11, "P"), home / "moving.gif", save_all=True, append_images=[_picture(12, "P")])
    _saved(_picture(13), home / "plain.bmp")
    return Target(title, "dataset", "images:.")


def _torch_file(title: str, home: Path) -> Target:
    import torch

    state = _tiny_state()
    torch.save(state, home / "netG.pth")
    return Target(title, "import", "netG.pth")


def _legacy_torch_file(title: str, home: Path) -> Target:
    import torch

    torch.save(_tiny_state(), home / "netG.pt", _use_new_zipfile_serialization=False)
    return Target(title, "import", "netG.pt")


def _safe_file(title: str, home: Path) -> Target:
    from safetensors.torch import save_file

    save_file(_tiny_state(), home / "netG.safetensors")
    return Target(title, "import", "netG.safetensors")


def _own_checkpoint(title: str, home: Path) -> Target:
    from synthaug.generators import checkpoint, load_system

    system = load_system("lostgan")
    config = _tiny_config()
    names = ["car", "sky"]
    checkpoint.save(home / "g.safetensors", system.build(config, 2), "lostgan", config, names, {})
    return Target(title, "checkpoint", "g.safetensors")


def _tiny_config():  # type: ignore[no-untyped-def]
    from synthaug.generators.lostgan import Config

    return Config(resolution=64, width=1, z_image=2, z_object=2, embedding=2, mask_hidden=2)


def _tiny_state():  # type: ignore[no-untyped-def]
    from synthaug.generators import load_system

    network = load_system("lostgan").build(_tiny_config(), 2)
    return {f"module.{key}": value.clone() for key, value in network.state_dict().items()}


def _class_names(title: str, home: Path) -> Target:
    names = {"object_idx_to_name": ["__image__", "cat", "dog"]}
    (home / "names.json").write_text(json.dumps(names))
    return Target(title, "names", "names.json")


def _job(title: str, home: Path) -> Target:
    (home / "job.yaml").write_text(
        "defaults: [base, _self_]\nname: mine\nseed: 3\ndata:\n  root: .\n"
        "  labelled: coco:train.json?images=images\n  validation: coco:val.json\n"
        "detector:\n  backend: torchvision\n  steps: 20\n  batch: 4\n"
        "generator:\n  system: lostgan\n  width: 8\nplan:\n  count: 50\nscore:\n  names: [dap]\n"
    )
    return Target(title, "job", "job.yaml")


def _layout(title: str, home: Path) -> Target:
    objects = [{"class": "cat", "box": [0, 0, 20, 30]}, {"class": "dog", "box": [5, 5, 40, 30]}]
    (home / "layout.json").write_text(json.dumps({"size": [30, 40], "objects": objects}))
    return Target(title, "layout", "layout.json")


EXTRA_ONLY = {"images"}  # formats of which the sample below is the better one
EXTRA: dict[str, Callable[[str, Path], Target]] = {
    "coco_foreign": _foreign_coco,
    "coco_zip": _zipped_coco,
    "coco_masked": _table_in("coco", "instances.json", "masked"),
    "lvis_masked": _table_in("lvis", "lvis_train.json", "masked"),
    "parquet_boxed": _table_in("parquet", ".", "boxed"),
    "yolo_polygons": _yolo_polygons,
    "yolo_pose": _yolo_pose,
    "voc_labelimg": _foreign_voc,
    "pictures": _pictures,
    "import_pth": _torch_file,
    "import_legacy": _legacy_torch_file,
    "import_safetensors": _safe_file,
    "own_checkpoint": _own_checkpoint,
    "class_names": _class_names,
    "job": _job,
    "layout": _layout,
}


def secrets(folder: Path) -> None:
    """Write the files that no input may make a reader open."""
    folder.mkdir()
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "magenta").save(out, "PNG")
    (folder / "secret.png").write_bytes(out.getvalue())
    (folder / "secret.txt").write_text(SECRET)
