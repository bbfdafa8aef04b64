"""Opening the object store that a URL names, by fsspec."""

from __future__ import annotations

from typing import Any

from gen_engine.engine.errors import RequestError, WriterUnavailable

STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "memory": "remote"}
"""URL scheme of a store that shows an object when its upload is completed, and not before → the extra for it."""

_MIB = 1 << 20

_OPTIONS: dict[str, dict[str, Any]] = {
    # Attempts are counted by Patience. Left alone, s3fs and botocore try five times each, one inside the other.
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 50}},
}

_PUT_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"chunksize": 16 * _MIB, "max_concurrency": 4},  # a lane's memory for an upload is their product
}


def open_store(url: str) -> tuple[Any, dict[str, Any]]:
    """Return the file system for a URL, without a cache of listings, and the options for its ``put_file``.

    Credentials and endpoints come from where the library looks for them: ``AWS_*``, ``FSSPEC_*``, its configuration.

    Raises:
        RequestError: shards cannot be written there whole or not at all.
        WriterUnavailable: a library is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in STORES:
        raise RequestError(
            f"{url}: {scheme}:// is not a store that shows whole objects only; give a directory (mount it), or a URL "
            f"of {', '.join(f'{known}://' for known in STORES)}"
        )
    if not rest.strip("/"):
        raise RequestError(f"{url}: give a bucket and a prefix, as in {scheme}://bucket/dataset")
    try:
        import fsspec

        store = fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(STORES[scheme], {}))
    except ImportError as error:
        raise WriterUnavailable(
            f"{scheme}:// needs a library ({error}): pip install 'gen-engine[{STORES[scheme]}]'"
        ) from error
    if STORES[scheme] == "s3":
        store.retries = 1
    return store, _PUT_OPTIONS.get(STORES[scheme], {})
