"""What PyTorch takes for Recall@K and MAP@R of the embeddings in FILE: one JSON line. Run: python pytorch_retrieval.py N D THREADS FILE

Squared distances of 1024 queries at a time by a matrix product in float32, then topk; classes of ten in a row, as the Rust example's."""
import json
import sys
import time

import torch

from pytorch_steps import reset_peak, resident

n, d, threads = (int(text) for text in sys.argv[1:4])
torch.set_num_threads(threads)
z = torch.from_file(sys.argv[4], size=n * d, dtype=torch.float32).view(n, d).clone()
labels = torch.arange(n) // 10
before, start = reset_peak(), time.perf_counter()
squares = z.square().sum(1)
first, precisions = torch.empty(n, dtype=torch.bool), torch.empty(n, dtype=torch.float64)
for begin in range(0, n, 1024):
    rows = torch.arange(begin, min(begin + 1024, n))
    distances = torch.addmm(squares, z[rows], z.t(), alpha=-2)
    distances[torch.arange(len(rows)), rows] = torch.inf
    same = labels[distances.topk(9, largest=False).indices] == labels[rows, None]
    first[rows] = same[:, 0]
    hits = same.double()
    precisions[rows] = (hits * hits.cumsum(1) / torch.arange(1, 10)).mean(1)
seconds = time.perf_counter() - start
peak = resident("VmHWM") - before if before else None
print(json.dumps({"n": n, "d": d, "threads": threads, "seconds": seconds, "peak_mib": peak,
                  "recall_at_1": first.double().mean().item(), "map_at_r": precisions.mean().item(),
                  "torch": torch.__version__}))
