"""`python -m tests.services [fetch] [postgres] [kafka] [redis]`."""

import contextlib
import signal
import sys
import time

from tests.services import ALL, Unavailable, close


def main() -> int:
    words = sys.argv[1:]
    only_fetch = "fetch" in words
    names = [word for word in words if word != "fetch"]
    if unknown := [name for name in names if name not in ALL]:
        print(f"unknown: {', '.join(unknown)}. {__doc__}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or (ALL if only_fetch else ["postgres", "kafka"]):
        before = time.monotonic()
        try:
            service = ALL[name].fetch() if only_fetch else ALL[name].shared()
        except Unavailable as error:
            print(f"{name:10} cannot be had: {error}", flush=True)
            failed = 1
        else:
            what = "ready to start" if service is None else f"{service.url}   ({service.origin})"
            print(f"{name:10} {what}   {time.monotonic() - before:.1f} s", flush=True)
    if not only_fetch:
        print("Ctrl-C ends them.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pause()
        close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
