"""Functions with real clients: their virtual environment, which tools/clients makes, and a fake of their cloud."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_fakes import CLIENTS, Fake, fake_dynamodb
from sandbox_command import Workshop, workshop_of


@pytest.fixture(scope="session", autouse=True)
def clients() -> Path:
    """The environment. Skips every test where it was not made."""
    if not (CLIENTS / ".stamp").exists():
        pytest.skip("tools/clients has not been run")
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    return CLIENTS


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with workshop_of(None) as found:
        yield found


@pytest.fixture(scope="module")
def dynamodb(tmp_path_factory: pytest.TempPathFactory, clients: Path) -> Iterator[Fake]:
    """A fake of DynamoDB that speaks TLS under production's name, with the table `orders`."""
    with fake_dynamodb(tmp_path_factory.mktemp("dynamodb")) as found:
        yield found
