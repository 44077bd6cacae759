"""A job's event files, read by PyPI's tensorboard, against its metrics.jsonl.

    pip install tensorboard==2.21.0
    python tests/tensorboard/read_events.py JOB        # the output folder of a job

To see a run that was cut off counted once: kill the job past a saved step, run it again, then this.
"""

import json
import struct
import sys
from pathlib import Path

import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

job = Path(sys.argv[1])
lines = [json.loads(line) for line in (job / "metrics.jsonl").read_text().splitlines()]
events = EventAccumulator(str(job / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
single = lambda value: struct.unpack("f", struct.pack("f", value))[0]
names = {name for line in lines for name in line if name != "step"}
for name in sorted(names):
    expected = [(line["step"], single(line[name])) for line in lines if name in line]
    found = [(event.step, event.value) for event in events.Scalars(name)]
    assert found == expected, (name, found, expected)
timings = [tag for tag in events.Tags()["scalars"] if tag.startswith("timing/")]
assert timings and "timing/peak_memory_bytes" in timings, timings
files = len(list((job / "tensorboard").iterdir()))
print(f"tensorboard {tensorboard.__version__}: {len(lines)} steps of {len(names)} numbers and ", end="")
print(f"{len(timings)} timings in {files} files, as in metrics.jsonl")
