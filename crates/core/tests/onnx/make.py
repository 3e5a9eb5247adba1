"""Makes the small graphs beside this file, and expected.json with what onnxruntime makes of one image.

    python make.py        # needs numpy, onnx and onnxruntime

The image is that of the tests: byte i of [h, w, 3] is (7 * i) % 256.
"""
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

here = Path(__file__).parent
random = np.random.default_rng(1)
FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
# What exporters write of a convolution; rten wants it written.
whole = {"dilations": [1, 1], "group": 1, "kernel_shape": [4, 4], "pads": [0, 0, 0, 0]}


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def convolution(inputs, outputs, size=4):
    return tensor("w", random.normal(size=(outputs, inputs, size, size)) * 0.2)


def save(name, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, producer_name="make.py", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, here / f"{name}.onnx")


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def network(pixels, output):
    """Convolution, pooling and flattening."""
    return [
        helper.make_node("Conv", [pixels, "w"], ["maps"], strides=[4, 4], **whole),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [output]),
    ]


free = ["batch", 3, "height", "width"]
w = convolution(3, 5)
save("plain", network("pixel_values", "image_embeds"), [value("pixel_values", FLOAT, free)], [value("image_embeds", FLOAT, ["batch", 5])], [w])
save("fixed", network("image", "out"), [value("image", FLOAT, [1, 3, 16, 16])], [value("out", FLOAT, [1, 5])], [w])
save(
    "bytes",
    [
        helper.make_node("Cast", ["image"], ["floats"], to=FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["first"], perm=[0, 3, 1, 2]),
        *network("first", "embedding"),
    ],
    [value("image", BYTE, ["n", 16, 16, 3])],
    [value("embedding", FLOAT, ["n", 5])],
    [w, tensor("scale", [255.0])],
)
save(
    "normalizes",
    [
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        *network("scaled", "embedding"),
    ],
    [value("image", FLOAT, ["n", 3, 16, 16])],
    [value("embedding", FLOAT, ["n", 5])],
    [w, tensor("mean", np.reshape([123.675, 116.28, 103.53], (1, 3, 1, 1))), tensor("std", np.reshape([58.4, 57.1, 57.4], (1, 3, 1, 1)))],
)
save(
    "tokens",
    [
        helper.make_node("Conv", ["pixel_values", "w"], ["maps"], strides=[4, 4], **whole),
        helper.make_node("Reshape", ["maps", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["last_hidden_state"], perm=[0, 2, 1]),
    ],
    [value("pixel_values", FLOAT, ["batch", 3, 16, 16])],
    [value("last_hidden_state", FLOAT, ["batch", 16, 5])],
    [w, numpy_helper.from_array(np.array([0, 5, 16]), "shape")],
)
save(
    "two",
    [*network("image", "first"), helper.make_node("Neg", ["first"], ["second"])],
    [value("image", FLOAT, free)],
    [value("first", FLOAT, ["batch", 5]), value("second", FLOAT, ["batch", 5])],
    [w],
)
save(
    "cubic",
    [
        helper.make_node("Resize", ["image", "", "", "sizes"], ["large"], mode="cubic"),
        *network("large", "embedding"),
    ],
    [value("image", FLOAT, ["n", 3, 16, 16])],
    [value("embedding", FLOAT, ["n", 5])],
    [w, numpy_helper.from_array(np.array([1, 3, 24, 24]), "sizes")],
)
save(
    "constant",
    [
        helper.make_node("Mul", ["image", "zero"], ["nothing"]),
        *network("nothing", "embedding"),
    ],
    [value("image", FLOAT, ["n", 3, 16, 16])],
    [value("embedding", FLOAT, ["n", 5])],
    [w, tensor("zero", np.zeros((1, 1, 1, 1)))],
)
save(
    "not-finite",
    [*network("image", "embedded"), helper.make_node("Neg", ["embedded"], ["negative"]), helper.make_node("Log", ["negative"], ["embedding"])],
    [value("image", FLOAT, ["n", 3, 16, 16])],
    [value("embedding", FLOAT, ["n", 5])],
    [w],
)
save(
    "text",
    [helper.make_node("Cast", ["input_ids"], ["embedding"], to=FLOAT)],
    [value("input_ids", TensorProto.INT64, ["n", 7])],
    [value("embedding", FLOAT, ["n", 7])],
    [],
)
save("huge", network("image", "embedding"), [value("image", FLOAT, ["n", 3, 100_000, 100_000])], [value("embedding", FLOAT, ["n", 5])], [w])
# Without dilations, which are optional.
save(
    "dilations",
    [
        helper.make_node("Conv", ["image", "w"], ["maps"], strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ],
    [value("image", FLOAT, free)],
    [value("embedding", FLOAT, ["batch", 5])],
    [w],
)
# Less the mean of the batch, as a batch normalisation in training.
save(
    "batch",
    [
        *network("image", "embedded"),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["embedded", "mean"], ["embedding"]),
    ],
    [value("image", FLOAT, free)],
    [value("embedding", FLOAT, ["batch", 5])],
    [w],
)
# The same for every image but for rounding.
save(
    "nearly",
    [
        *network("image", "embedded"),
        helper.make_node("Mul", ["embedded", "little"], ["small"]),
        helper.make_node("Add", ["small", "constant"], ["embedding"]),
    ],
    [value("image", FLOAT, free)],
    [value("embedding", FLOAT, ["batch", 5])],
    [w, tensor("little", [3e-7]), tensor("constant", [1, 2, 3, 4, 5])],
)

image = (7 * np.arange(16 * 16 * 3) % 256).reshape(16, 16, 3).astype(np.float32)
first = image.transpose(2, 0, 1)[None]
imagenet = (first / 255 - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))


def run(name, pixels):
    session = onnxruntime.InferenceSession(here / f"{name}.onnx")
    return session.run(None, {session.get_inputs()[0].name: pixels})[0][0]


tokens = run("tokens", imagenet.astype(np.float32))
expected = {
    "plain": run("plain", imagenet.astype(np.float32)),
    "fixed": run("fixed", imagenet.astype(np.float32)),
    "bytes": run("bytes", image[None].astype(np.uint8)),
    "normalizes": run("normalizes", first),
    "class-token": tokens[0],
    "mean-token": tokens.mean(0),
}
(here / "expected.json").write_text(json.dumps({name: [float(x) for x in row] for name, row in expected.items()}, indent=1) + "\n")
