"""Parse ``--device`` into the devices of a job, one per worker process."""

from __future__ import annotations

from gen_engine.engine.backends.cuda import visible_gpus
from gen_engine.engine.errors import BackendUnavailable, RequestError

ALL = "all"


def parse_devices(text: str) -> tuple[str, ...]:
    """Return the devices that a job runs on, in the order that they were named.

    ``cpu``; ``cuda``, the first GPU; ``cuda:1``; ``cuda:0,1``; or ``all``, every GPU that this process may use.
    Only the backend that opens a GPU checks that it exists. An unknown kind of device is passed to the backend as well,
    which may support it.

    Raises:
        RequestError: a malformed list, or one that names a GPU twice.
        BackendUnavailable: ``all``, and there is no GPU; with the reason.
    """
    if text == ALL:
        gpus = visible_gpus()
        if not gpus:
            raise BackendUnavailable(
                "device 'all': the NVIDIA driver lists no GPU that this process may use; "
                "see CUDA_VISIBLE_DEVICES, or use --device cpu"
            )
        return tuple(f"cuda:{ordinal}" for ordinal in range(len(gpus)))
    kind, _, ordinals = text.partition(":")
    if kind != "cuda" or "," not in ordinals:
        return (text,)
    numbers = ordinals.split(",")
    if not all(number.isdecimal() and number.isascii() for number in numbers):
        raise RequestError(f"device {text!r}: not a list of GPUs; write cuda:0,1, or all for every GPU")
    devices = tuple(f"cuda:{int(number)}" for number in numbers)
    if len(set(devices)) < len(devices):
        raise RequestError(f"device {text!r}: it names a GPU twice; one worker process per GPU uses all of it")
    return devices
