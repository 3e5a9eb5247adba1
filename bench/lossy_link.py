"""A network between two hosts of this machine that delays and loses packets: two network namespaces with a cable of our own.

    python3 bench/lossy_link.py NAMESPACE0 NAMESPACE1 DELAY_MS LOSS_PERCENT

Makes both namespaces, 10.9.0.1 and 10.9.0.2, prints "up", and carries packets until its input ends; then it takes both away and prints
how many it carried and lost as JSON. Needs root and /dev/net/tun. Linux's netem does the same where the kernel has it.
"""

import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def cable(name, namespace, address, made):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    ip("netns", "add", namespace)
    made.append(namespace)
    ip("link", "set", name, "netns", namespace)
    ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    for device in (name, "lo"):
        ip("-n", namespace, "link", "set", device, "up")
    return end


def main(namespaces, delay, loss, made):
    draw = random.Random(1)
    carried = lost = 0
    ends = [cable(f"rkdlink{i}", name, f"10.9.0.{i + 1}", made) for i, name in enumerate(namespaces)]
    print("up", flush=True)
    waiting = []  # (when, number, end, packet)
    while True:
        until = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([*ends, sys.stdin], [], [], until)
        if sys.stdin in ready and not sys.stdin.buffer.read1(1):
            break
        for place in (0, 1):
            if ends[place] not in ready:
                continue
            packet = os.read(ends[place], 1 << 16)
            if draw.random() < loss:
                lost += 1
                continue
            carried += 1
            heapq.heappush(waiting, (time.monotonic() + delay, carried, ends[1 - place], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(waiting)
            try:
                os.write(end, packet)
            except BlockingIOError:
                lost += 1
    print(json.dumps({"carried": carried, "lost": lost}), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    MADE = []
    try:
        main(sys.argv[1:3], float(sys.argv[3]) / 1e3, float(sys.argv[4]) / 100, MADE)
    finally:
        for NAME in MADE:
            subprocess.run(["ip", "netns", "del", NAME], check=False)
