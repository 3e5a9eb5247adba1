"""Makes the files beside it: small grey pictures of one brightness each, in Parquet as people have them.

    python make.py

It needs pillow and pyarrow. `tests/data/parquet.rs` reads the files and compares them with what stands here.
"""

import io
import json
import pathlib

import pyarrow
import pyarrow.parquet
from PIL import Image

HERE = pathlib.Path(__file__).parent


def png(value):
    out = io.BytesIO()
    Image.new("L", (8, 8), value).save(out, "PNG")
    return out.getvalue()


def write(name, columns, features=None, **options):
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, **options)


def image(values, paths):
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    return pyarrow.array([{"bytes": None if v is None else png(v), "path": p} for v, p in zip(values, paths)], kind)


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}

# As Hugging Face's `datasets` writes a data set of two parts; -1 is no class.
write(
    "hub/data/train-00000-of-00001.parquet",
    {"image": image([1, 2, 3, 4, 5], ["a.png", "b.png", "c.png", "d.png", "e.png"]), "label": [0, 1, 0, 1, -1]},
    FEATURES,
    row_group_size=2,
)
write(
    "hub/data/test-00000-of-00001.parquet",
    {"image": image([6, 7, 8], ["f.png", "g.png", "h.png"]), "label": [0, 1, 1]},
    FEATURES,
)
# Bytes alone, with ids, names of classes and parts in columns, zstd, format 2 pages.
write(
    "plain.parquet",
    {
        "id": pyarrow.array([17, 18, 19]),
        "picture": pyarrow.array([png(1), png(2), png(3)], pyarrow.large_binary()),
        "category": pyarrow.array(["cat", "dog", None]).dictionary_encode(),
        "split": ["train", "test", "train"],
        "caption": ["x", "y", "z"],
    },
    compression="zstd",
    data_page_version="2.0",
)
# Nothing beside the image, whose path is always the same; one row without bytes.
write("bare.parquet", {"image": image([1, 2, None], ["image.png"] * 3)})
# Classes as pandas writes whole numbers of which one is missing, and classes that are none.
write("floats.parquet", {"image": [png(1), png(2), png(3)], "label": [0.0, 1.0, float("nan")]}, FEATURES)
write("lists.parquet", {"image": [png(1), png(2)], "label": [["cat"], ["dog"]]})
# What is refused.
write("parts.parquet", {"image": [png(1), png(2)], "split": ["train", "foo"]})
write("two.parquet", {"left": [png(1)], "right": [png(2)]})
write("none.parquet", {"id": ["a"], "caption": ["x"]})
