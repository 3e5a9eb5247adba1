"""What onnxruntime alone takes for a batch of the model in FILE: one JSON line. Run: python onnxruntime_teacher.py FILE BATCH THREADS SECONDS

Each process measures for SECONDS, after one pass to warm up. Images are those of the Rust example, in the graph's layout."""
import json
import sys
import time

import numpy as np
import onnxruntime

file, (batch, threads, seconds) = sys.argv[1], (int(text) for text in sys.argv[2:5])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
(graph_input,) = session.get_inputs()
side = graph_input.shape[2]
flat = np.arange(batch * side * side * 3, dtype=np.int64) % 251
images = (flat.astype(np.float32) / np.float32(125) - np.float32(1)).reshape(batch, side, side, 3)
feed = {graph_input.name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
embedding, passes, start = session.run(None, feed)[0][0, :64], [], time.perf_counter()
while len(passes) < 3 or time.perf_counter() - start < seconds:
    begin = time.perf_counter()
    session.run(None, feed)
    passes.append((time.perf_counter() - begin) * 1e3 / batch)
print(json.dumps({"ms": sorted(passes)[len(passes) // 2], "passes": len(passes), "embedding": embedding.tolist(),
                  "onnxruntime": onnxruntime.__version__}))
