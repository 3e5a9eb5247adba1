"""Training steps of rkd and of PyTorch on one GPU, in turns of about half a second, as ratios.

Run: python3 speed.py [--program ./gpu_check] [--seconds 240] [--out speed.md] [--only WORKLOAD ...]     (needs torch; run.sh calls it)
Every step is forward, loss, backward and optimiser step on fixed random data that lie on the GPU; network, batch, loss and optimiser of
a name are those of crates/core/src/bench/workloads.rs. PyTorch runs channels_last with a fused optimiser, eagerly and by torch.compile.
The relational losses are written without what would make the host wait. A pass for each precision, as far as the time goes: rkd in float32,
in bf16 and with TF32, each beside PyTorch in float32, under bfloat16 autocast and with TF32; a ratio is of one pass. What could not be
measured says why. The table is written anew after each workload.
"""
import argparse
import gc
import json
import statistics
import subprocess
import time

ROUNDS = 5
TURN = 0.4  # seconds
# rkd's precision, and PyTorch's ways beside it.
PASSES = {
    "float32": ["eager float32", "compiled float32"],
    "bf16": ["eager bfloat16", "compiled bfloat16"],
    "tf32": ["eager TF32", "compiled TF32"],
}
LATE = "no time was left"


class Ours:
    """rkd's program, which prepares a workload and takes steps when it is told."""

    def __init__(self, program):
        self.process = subprocess.Popen([program, "bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"rkd's program ended at \"{line}\" with the code {self.process.wait()}")
        return json.loads(answer)

    def run(self, steps):
        return self.tell(f"run {steps}")["step_ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def peer():
    """PyTorch's side, or why there is none."""
    try:
        import torch
    except ImportError as error:
        return None, f"PyTorch cannot be imported: {error}"
    if not torch.cuda.is_available():
        return None, "PyTorch sees no GPU"
    return Torch(torch), None


class Torch:
    def __init__(self, torch):
        self.torch = torch

    def conv4(self):
        nn = self.torch.nn

        def block(c):
            return [nn.Conv2d(c, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        return nn.Sequential(*block(3), *block(64), *block(64), *block(64), nn.Flatten())

    def resnet(self, depth, out):
        """torchvision's, which may not be installed."""
        nn = self.torch.nn

        class Block(nn.Module):
            def __init__(self, c_in, c, stride, wide):
                super().__init__()
                c_out = 4 * c if wide else c
                kernels = [(1, 1), (3, stride), (1, 1)] if wide else [(3, stride), (3, 1)]
                layers, before = [], c_in
                for place, (kernel, step) in enumerate(kernels):
                    after = c_out if place == len(kernels) - 1 else c
                    layers += [nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(after)]
                    layers += [nn.ReLU(inplace=True)] if place < len(kernels) - 1 else []
                    before = after
                self.body, self.activation, self.shortcut = nn.Sequential(*layers), nn.ReLU(inplace=True), None
                if stride != 1 or c_in != c_out:
                    self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

            def forward(self, x):
                return self.activation(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))

        wide, stages = {18: (False, [2, 2, 2, 2]), 50: (True, [3, 4, 6, 3])}[depth]
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        c_in = 64
        for stage, blocks in enumerate(stages):
            c = 64 << stage
            for block in range(blocks):
                layers.append(Block(c_in, c, 2 if stage and not block else 1, wide))
                c_in = 4 * c if wide else c
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, out))

    def rkd(self, student, teacher):
        torch, F = self.torch, self.torch.nn.functional

        def relative(z):
            squares = z.pow(2).sum(1)
            squared = (squares[:, None] + squares[None] - 2 * z @ z.T).clamp(min=1e-12)
            distances = squared.sqrt() * (1 - torch.eye(len(z), device=z.device))
            return distances / (distances.sum() / (distances > 0).sum())

        def angles(z):
            units = F.normalize(z[None] - z[:, None], dim=2)
            return torch.bmm(units, units.transpose(1, 2))
        with torch.no_grad():
            d_t, a_t = relative(teacher), angles(teacher)
        return F.smooth_l1_loss(relative(student), d_t) + 2 * F.smooth_l1_loss(angles(student), a_t)

    def prepare(self, workload, mode):
        """A function that takes so many steps and gives the milliseconds of one."""
        torch = self.torch
        way, precision = mode.split()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        compiled = (lambda f: torch.compile(f)) if way == "compiled" else (lambda f: f)
        if workload["kind"] == "relations":
            student = torch.randn(workload["n"], workload["d"], device="cuda", requires_grad=True)
            teacher, loss = torch.randn(workload["n"], workload["d"], device="cuda"), compiled(self.rkd)

            def step():
                student.grad = None
                loss(student, teacher).backward()
        else:
            model = workload["network"](self).cuda().train().to(memory_format=torch.channels_last)
            images = torch.randn(workload["shape"], device="cuda").to(memory_format=torch.channels_last)
            teacher = torch.nn.functional.normalize(torch.randn(workload["shape"][0], workload["teacher"], device="cuda"), dim=1)
            update = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5, fused=True)
            model, loss = compiled(model), compiled(self.rkd)

            def step():
                update.zero_grad(set_to_none=True)
                with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
                    output = model(images)
                loss(output.float(), teacher).backward()
                update.step()

        def run(steps):
            # The switches are the process's: every turn sets its own.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            return (time.perf_counter() - start) * 1e3 / steps
        run(3)  # compiles, and finds algorithms
        return run

    def forget(self):
        gc.collect()
        self.torch.cuda.empty_cache()
        self.torch.compiler.reset()


WORKLOADS = {
    "resnet18-224px-b256-distil": {"kind": "network", "network": lambda t: t.resnet(18, 64), "shape": (256, 3, 224, 224), "teacher": 512},
    "resnet50-224px-b128-train": {"kind": "network", "network": lambda t: t.resnet(50, 512), "shape": (128, 3, 224, 224), "teacher": 512},
    "conv4-84px-b512-train": {"kind": "network", "network": lambda t: t.conv4(), "shape": (512, 3, 84, 84), "teacher": 64},
    "rkd-da-n512-d128": {"kind": "relations", "n": 512, "d": 128},
    "rkd-da-n2048-d128": {"kind": "relations", "n": 2048, "d": 128},
}


def in_words(error):
    text = str(error).strip().splitlines() or [type(error).__name__]
    return "out of memory" if "out of memory" in str(error).lower() else text[0][:160]


def measure(name, precision, ours, torch, deadline):
    """Rows (who, the ms of a step in each turn, or why there are none): rkd and PyTorch's ways in turns."""
    own, modes = f"rkd {precision}", PASSES[precision] if torch is not None else []
    # What is to be compared is float32.
    if precision != "float32" and time.monotonic() > deadline:
        return [(who, None, LATE) for who in [own, *modes]]
    rows, runners = [], {}
    try:
        ours.tell(f"prepare {name} {precision}")
        ours.run(3)
        runners[own] = ours.run
    except (RuntimeError, OSError) as error:
        rows.append((own, None, in_words(error)))
    for mode in modes:
        if time.monotonic() > deadline:
            rows.append((mode, None, LATE))
            continue
        try:
            runners[mode] = torch.prepare(WORKLOADS[name], mode)
        except Exception as error:  # whatever it is, the others go on
            rows.append((mode, None, in_words(error)))
    times, steps = {who: [] for who in runners}, {}
    for turn in range(ROUNDS + 1):
        for who, run in list(runners.items()):
            try:
                ms = run(steps.get(who, 1))
            except Exception as error:
                rows.append((who, None, in_words(error)))
                del runners[who]
                continue
            if turn == 0:
                steps[who] = max(1, min(500, round(TURN * 1e3 / ms)))
            else:
                times[who].append(ms)
    rows += [(who, times[who], None) for who in runners]
    if torch is not None:
        runners.clear()
        torch.forget()
    return rows


def render(results, problem, head):
    lines = ["## Speed", "", head, ""]
    if problem:
        lines += [f"PyTorch was not measured: {problem}.", ""]
    lines += ["| workload | who | ms a step | range | rkd's speed as a share of it |", "| --- | --- | --- | --- | --- |"]
    for name, precision, rows in results:
        first = f"rkd {precision}"
        own = next((statistics.median(times) for who, times, _ in rows if who == first and times), None)
        order = [first, *PASSES[precision]]
        for who, times, why in sorted(rows, key=lambda row: order.index(row[0])):
            if not times:
                lines.append(f"| {name} | {who} | {why} | | |")
                continue
            middle = statistics.median(times)
            ratio = "" if own is None or who == first else f"{middle / own:.2f}"
            lines.append(f"| {name} | {who} | {middle:.3f} | {min(times):.3f} to {max(times):.3f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="./gpu_check")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--out", default="speed.md")
    parser.add_argument("--only", nargs="*", choices=WORKLOADS)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    torch, problem = peer()
    head = "Medians of turns; a share above 1 says that rkd is faster."
    if torch is not None:
        head += f" PyTorch {torch.torch.__version__} on {torch.torch.cuda.get_device_name()}, channels_last, fused Adam."
    results = []
    for precision in PASSES:
        for name in options.only or WORKLOADS:
            # Relations have no layers for autocast, and are float64 here.
            if WORKLOADS[name]["kind"] == "relations" and precision == "bf16":
                continue
            # A program that ended takes no turns any more: each workload has its own.
            ours = Ours(options.program)
            try:
                results.append((name, precision, measure(name, precision, ours, torch, deadline)))
            finally:
                ours.close()
            with open(options.out, "w") as file:
                file.write(render(results, problem, head))
    measured = all(times or why == LATE for _, _, rows in results for who, times, why in rows if who.startswith("rkd "))
    raise SystemExit(0 if measured and torch is not None else 1)


if __name__ == "__main__":
    main()
