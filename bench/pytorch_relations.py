"""What PyTorch takes for RKD distance + 2 x angle with its gradient: one JSON line. Run: python pytorch_relations.py N D THREADS"""
import json
import statistics
import sys
import time

import torch

from pytorch_steps import relational, reset_peak, resident

n, d, threads = (int(text) for text in sys.argv[1:4])
torch.set_num_threads(threads)
torch.manual_seed(0)
step = relational(n, d)(None)
before = reset_peak()
times, start = [], time.perf_counter()
while len(times) < 2 or (time.perf_counter() - start < 2 and len(times) < 500):
    t = time.perf_counter()
    step()
    times.append((time.perf_counter() - t) * 1e3)
times = times[1:]
peak = resident("VmHWM") - before if before else None
print(json.dumps({"n": n, "d": d, "threads": threads, "step_ms": statistics.median(times), "best_ms": min(times),
                  "runs": len(times), "peak_mib": peak, "torch": torch.__version__}))
