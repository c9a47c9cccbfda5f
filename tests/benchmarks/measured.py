"""Runs a command and writes down what it took: python measured.py FIGURES.json COMMAND...

A small program of its own, because Linux hands a process's peak memory down to what it starts: under a benchmark that has
loaded PyTorch, every child would seem to need as much.
"""

import json
import os
import subprocess
import sys
import time

if __name__ == "__main__":
    started = time.perf_counter()
    process = subprocess.Popen(sys.argv[2:])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    with open(sys.argv[1], "w") as file:
        json.dump({"process_seconds": time.perf_counter() - started, "memory_gb": usage.ru_maxrss / 1024**2}, file)
    sys.exit(process.returncode != 0)
