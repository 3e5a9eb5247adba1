"""Makes the files beside it: the same four vectors in every format and form.

    python make.py

It needs numpy and pyarrow. `tests/vectors.rs` reads the files and compares them with what stands here.
"""

import csv
import json
import pathlib
import struct

import numpy
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
IDS = ["cat/1.jpg", "cat/2.jpg", "dog/ä.jpg", "dog/4.jpg"]
# Numbers that float16 holds exactly.
VECTORS = numpy.array([[0.5, -1, 2], [0.25, 3, -0.125], [8, 0, 1.5], [-4, 0.75, 6]], dtype="float32")
LABELS = [0, 0, 1, 1]


def beside(name):
    (HERE / f"{name}.ids.json").write_text(json.dumps({"ids": IDS, "classes": ["cat", "cat", "dog", "dog"]}))


def arrays():
    for kind in ["float16", "float32", "float64"]:
        numpy.save(HERE / f"{kind}.npy", VECTORS.astype(kind))
        (HERE / f"{kind}.ids.txt").write_text("\n".join(IDS) + "\n")
    with open(HERE / "version2.npy", "wb") as file:
        numpy.lib.format.write_array(file, VECTORS, version=(2, 0))
    beside("version2.npy")
    numpy.savez(HERE / "stored.npz", vectors=VECTORS, ids=numpy.array(IDS))
    numpy.savez_compressed(HERE / "deflated.npz", embeddings=VECTORS.astype("float64"), names=numpy.array([i.encode() for i in IDS]))
    numpy.savez(HERE / "unnamed.npz", VECTORS, numpy.array(IDS))
    # What is refused.
    numpy.save(HERE / "fortran.npy", numpy.asfortranarray(VECTORS))
    numpy.save(HERE / "big-endian.npy", VECTORS.astype(">f4"))
    numpy.save(HERE / "cube.npy", VECTORS[None])
    numpy.savez(HERE / "objects.npz", vectors=VECTORS, ids=numpy.array(IDS, dtype=object))
    numpy.save(HERE / "none.npy", VECTORS)
    for name in ["fortran", "big-endian", "cube"]:
        (HERE / f"{name}.ids.txt").write_text("\n".join(IDS) + "\n")


def safetensors():
    def write(name, dtype, data, metadata):
        header = {"__metadata__": metadata} if metadata else {}
        header["embeddings"] = {"dtype": dtype, "shape": list(VECTORS.shape), "data_offsets": [0, len(data)]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (HERE / name).write_bytes(struct.pack("<Q", len(text)) + text + data)

    upper = (VECTORS.view("uint32") >> 16).astype("<u2").tobytes()
    write("f16.safetensors", "F16", VECTORS.astype("<f2").tobytes(), {"ids": json.dumps(IDS)})
    write("bf16.safetensors", "BF16", upper, {"ids": json.dumps(IDS)})
    write("f64.safetensors", "F64", VECTORS.astype("<f8").tobytes(), None)
    beside("f64.safetensors")


def texts():
    for name, delimiter in [("lists.csv", ","), ("lists.tsv", "\t")]:
        with open(HERE / name, "w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["label", "file_name", "embedding"])
            writer.writerows([label, name, json.dumps(row.tolist())] for label, name, row in zip(LABELS, IDS, VECTORS))
    with open(HERE / "columns.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "e0", "e1", "e2"])
        writer.writerows([name, *row] for name, row in zip(IDS, VECTORS.tolist()))
    with open(HERE / "printed.csv", "w", newline="") as file:
        csv.writer(file).writerows([name, str(row)] for name, row in zip(IDS, VECTORS))
    with open(HERE / "lines.jsonl", "w") as file:
        for label, name, row in zip(LABELS, IDS, VECTORS.tolist()):
            file.write(json.dumps({"vector": row, "label": label, "id": name}) + "\n")


def tables():
    rows = VECTORS.tolist()

    def table(kind, ids=pyarrow.string(), item=pyarrow.float32()):
        values = [numpy.array(row, "float16") for row in rows] if item == pyarrow.float16() else rows
        return pyarrow.table({
            "label": pyarrow.array(LABELS, pyarrow.int64()),
            "path": pyarrow.array(IDS, pyarrow.string()).cast(ids),
            "embedding": pyarrow.array(values, kind(item)),
        })

    fixed = lambda item: pyarrow.list_(item, 3)
    numbers = pyarrow.table({"id": IDS, **{f"dim_{i}": VECTORS[:, i] for i in range(3)}})
    holes = pyarrow.table({
        "id": ["x", *IDS, "y"],
        "vector": pyarrow.array([None, *rows, []], pyarrow.list_(pyarrow.float64())),
    })
    whole = pyarrow.table({"id": pyarrow.array([1, 2, 3, 2**40], pyarrow.int64()), "vector": pyarrow.array(rows, fixed(pyarrow.float32()))})
    many = pyarrow.table({"id": IDS, "a": pyarrow.array(rows, fixed(pyarrow.float32())), "b": pyarrow.array(rows, fixed(pyarrow.float32()))})

    def parquet(name, data, **options):
        pyarrow.parquet.write_table(data, HERE / f"{name}.parquet", store_schema=False, write_statistics=False, **options)

    parquet("plain", table(pyarrow.list_), compression="none", use_dictionary=False)
    parquet("snappy", table(fixed), compression="snappy")
    parquet("gzip", table(pyarrow.large_list, item=pyarrow.float64()), compression="gzip")
    parquet("zstd", table(pyarrow.list_), compression="zstd", data_page_version="2.0")
    parquet("lz4", table(pyarrow.list_, item=pyarrow.float16()), compression="lz4", row_group_size=2)
    parquet("split", table(pyarrow.list_), compression="zstd", use_dictionary=False, use_byte_stream_split=["embedding.list.element"])
    parquet("columns", numbers)
    parquet("holes", holes)
    parquet("whole", whole)
    parquet("many", many)
    parquet("brotli", table(pyarrow.list_), compression="brotli")
    parquet("delta", table(pyarrow.list_), use_dictionary=False, column_encoding={"path": "DELTA_BYTE_ARRAY"})

    def stream(name, data, **options):
        with pyarrow.ipc.new_stream(HERE / name, data.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as out:
            out.write_table(data, max_chunksize=3)

    def file(name, data, **options):
        with pyarrow.ipc.new_file(HERE / name, data.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as out:
            out.write_table(data, max_chunksize=3)

    words = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    file("fixed.arrow", table(fixed))
    file("half.arrow", table(fixed, item=pyarrow.float16()), compression="lz4")
    stream("large.arrows", table(pyarrow.large_list, pyarrow.large_string(), pyarrow.float64()))
    stream("words.arrows", table(pyarrow.list_, words), compression="lz4")
    stream("view.arrows", table(pyarrow.list_, pyarrow.string_view()))
    stream("holes.arrows", holes)
    file("columns.arrow", numbers)
    file("zstd.arrow", table(fixed), compression="zstd")
    pyarrow.feather.write_feather(table(fixed), HERE / "table.feather", compression="lz4")


arrays()
safetensors()
texts()
tables()
