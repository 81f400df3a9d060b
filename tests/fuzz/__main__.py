"""``python -m tests.fuzz --inputs 1000000 --seed 7``: the long run; the short one is ``test_fuzz.py``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.formats import FormatFuzzer
from tests.fuzz.harness import Fuzzer, WrongRowError, subjects


def main() -> int:
    """Run, print the counts of the outcomes, and return 1 at a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--replay", help="one input in hexadecimal digits, against all tables, instead of a run"
    )
    parser.add_argument("--formats", action="store_true", help="Telegraf, line protocol and Avro, not JSON")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        for subject in subjects():
            print(subject.name, subject.check(bytes.fromhex(arguments.replay), (1, 1_767_322_800_000)))
        return 0
    print(f"seed {arguments.seed}, {arguments.inputs} inputs", flush=True)
    fuzzer = FormatFuzzer(arguments.seed) if arguments.formats else Fuzzer(arguments.seed)
    started = time.monotonic()
    try:
        fuzzer.run(arguments.inputs)
    except WrongRowError as error:
        print(error)
        return 1
    finally:
        done, seconds = sum(fuzzer.counts.values()), time.monotonic() - started
        print(f"{done} inputs in {seconds:.0f} s ({done / seconds:.0f}/s)")
        for outcome, count in fuzzer.counts.most_common():
            print(f"{count:>9} {count / done:7.2%}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
