"""``--device``: from what the user wrote to the devices of a job, one a process."""

from __future__ import annotations

from gen_engine.engine.backends.cuda import visible_gpus
from gen_engine.engine.errors import BackendUnavailable, RequestError

ALL = "all"


def parse_devices(text: str) -> tuple[str, ...]:
    """Return the devices that a job runs on, in the order that they were named.

    ``cpu``; ``cuda``, the first GPU; ``cuda:1``; ``cuda:0,1``; or ``all``, every GPU that this process may use.
    Whether a GPU that is named is there is found out by the backend that opens it. A kind that is not known is left to
    the backend as well, which knows its own.

    Raises:
        RequestError: a list that is none, or names a GPU twice.
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
        raise RequestError(f"device {text!r}: it is no list of GPUs; write cuda:0,1, or all for every GPU")
    devices = tuple(f"cuda:{int(number)}" for number in numbers)
    if len(set(devices)) < len(devices):
        raise RequestError(f"device {text!r}: it names a GPU twice; a process a GPU is all that it can use")
    return devices
