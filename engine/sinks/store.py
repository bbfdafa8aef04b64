"""Open the object store that a URL names, through fsspec."""

from __future__ import annotations

import re
from typing import Any

from gen_engine.engine.errors import RequestError, WriterUnavailable

STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "memory": "remote"}
"""URL scheme of a store that shows an object only when its upload is complete → the extra for it."""

_MIB = 1 << 20

_OPTIONS: dict[str, dict[str, Any]] = {
    # Attempts are counted by Patience. By default, s3fs and botocore try five times each, nested.
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 50}},
}

_PUT_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"chunksize": 16 * _MIB, "max_concurrency": 4},  # the memory of a worker's upload is their product
}

_CREDENTIALS = re.compile(r"(?<=://)[^\s/:@?#]*:[^\s@]*@|(?<!\babfs://)(?<!\babfss://)(?<!\baz://)(?<=://)[^\s/@?#]+@")
"""``user:password@`` in a URL (an AWS key may contain slashes), and ``key@`` except for an Azure container."""

_QUERY = re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s?#]*)[?#]\S*")


def mask_credentials(text: str) -> str:
    """Return a text in which the parts of a URL before its host and after its path are replaced by ``***``."""
    return _QUERY.sub(r"\1?***", _CREDENTIALS.sub("***@", text))


def check_url(url: str) -> None:
    """Raise RequestError for a URL whose store is not supported, or that contains credentials."""
    scheme, _, rest = url.partition("://")
    shown = mask_credentials(url)
    if scheme not in STORES:
        raise RequestError(
            f"{shown}: {scheme}:// is not a store that shows whole objects only; give a directory (mount it), or a URL "
            f"of {', '.join(f'{known}://' for known in STORES)}"
        )
    if not rest.strip("/"):
        raise RequestError(f"{shown}: give a bucket and a prefix, as in {scheme}://bucket/dataset")
    place = rest.partition("/")[0]
    if ":" in place or ("@" in place and STORES[scheme] != "az"):  # az: container@account.dfs.core.windows.net
        raise RequestError(
            f"{shown}: credentials in a URL end up in logs and process lists, and are not read; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or what your store's fsspec library asks for"
        )
    if "?" in rest or "#" in rest:
        raise RequestError(f"{shown}: a query or fragment is not part of a prefix; give {scheme}://bucket/dataset")


def open_store(url: str) -> tuple[Any, dict[str, Any]]:
    """Return the file system for a URL, without a cache of listings, and the options for its ``put_file``.

    Credentials and endpoints come from the library's own sources: ``AWS_*``, ``FSSPEC_*``, its configuration.

    Raises:
        RequestError: see :func:`check_url`.
        WriterUnavailable: a library is not installed.
    """
    check_url(url)
    scheme = url.partition("://")[0]
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
