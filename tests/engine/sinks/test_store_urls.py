"""What a URL may be, and that no credentials in one are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_engine.cli.main import main
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.sinks import open_reader, open_sink
from gen_engine.engine.sinks.store import check_url, mask_credentials

SECRET = "wJalrXUtnFEMI"

WITH_SECRET = [
    f"s3://AKIA:{SECRET}@bucket/x",
    f"s3://AKIA:a/{SECRET}/b@bucket/x",
    f"s3://{SECRET}@bucket/x",
    f"gs://user:{SECRET}@bucket/x",
    f"abfs://user:{SECRET}@account.dfs.core.windows.net/x",
    f"s3://bucket/x?X-Amz-Signature={SECRET}",
    f"az://container/x?sig={SECRET}",
    f"s3://bucket/x#{SECRET}",
    f"https://user:{SECRET}@host/x",
    f"https://host/x?token={SECRET}",
    f"ftp://user:{SECRET}@host",
]


@pytest.mark.parametrize("url", WITH_SECRET)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    for use in (check_url, open_reader, lambda url: open_sink(url, WHOLE)):
        with pytest.raises(RequestError) as caught:
            use(url)
        assert SECRET not in str(caught.value)
    assert SECRET not in mask_credentials(f"cannot read {url}: refused ({url})")


@pytest.mark.parametrize("command", ["verify", "inspect", "finish"])
@pytest.mark.parametrize("url", WITH_SECRET)
def test_no_command_shows_them(command: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, url]) in (2, 3)
    output = capsys.readouterr()
    assert SECRET not in output.err + output.out


@pytest.mark.parametrize("url", WITH_SECRET)
def test_a_usage_error_does_not_show_them(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["verify", "one", url], ["train", "--data", url, "--out", str(tmp_path / "run")]):
        assert main(arguments) != 0
        output = capsys.readouterr()
        assert SECRET not in output.err + output.out


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/x is being written",
        "abfs://container@account.dfs.core.windows.net/x",
        "see https://pypi.org/project/x, or a@b.c",
        "out/data@2 has 3 bytes: 1@2",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert mask_credentials(text) == text


def test_an_account_is_no_credential() -> None:
    check_url("abfs://container@account.dfs.core.windows.net/x")
