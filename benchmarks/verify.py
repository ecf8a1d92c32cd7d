"""What it costs to open a signed cache entry, against the bare Ed25519 check of as many bytes. Run:
`python benchmarks/verify.py`. The ratio of the medians must not pass 2.
"""

import argparse
import base64
import os
import statistics
import time

import measure
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from build_tests.cache.keys import ED25519, Signer, keygen
from build_tests.cache.trust import Address, Trust, sealed

SIZES = {"1 output": 400, "100 outputs": 15_000, "10,000 outputs": 1_500_000}
"""Bytes of a record's body, about."""
LIMIT = 2.0


def seconds(function, rounds):
    """Of each call."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return taken


def compared(size, rounds):
    """Seconds of the bare check and of opening an entry, for a body of a size."""
    key = keygen("main", "k1")
    signer = Signer(algorithm=ED25519, secret=base64.b64decode(key.private.split()[2]), key_id="k1")
    address, body = Address("action", "main", os.urandom(16).hex()), os.urandom(size)
    envelope = sealed(address, body, signer)
    trust = Trust(scope="main", keys=(("main", (("k1", key.public),)),))
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.partition(":")[2]))
    proof = signer.sign(body)

    def bare():
        public.verify(proof, body)

    def opened():
        assert trust.opened(address, envelope, remote=True) is not None

    bare(), opened()  # the two take turns, so that both see the machine in the same moods
    turns = [(seconds(bare, 10), seconds(opened, 10)) for _ in range(rounds // 10)]
    return tuple(statistics.median(value for turn in turns for value in turn[side]) for side in (0, 1))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    rows, worst = [], 0.0
    for name, size in SIZES.items():
        bare, opened = compared(size, max(10, rounds if size < 100_000 else rounds // 20))
        worst = max(worst, opened / bare)
        rows.append((f"{name} ({size:,} bytes)", f"{bare * 1e6:.0f}", f"{opened * 1e6:.0f}", f"{opened / bare:.2f}"))
    print(measure.table(["entry", "bare check, µs", "opened, µs", "ratio"], rows))
    if worst > LIMIT:
        raise SystemExit(f"opening costs {worst:.2f} times the bare check: more than {LIMIT}")


if __name__ == "__main__":
    main()
