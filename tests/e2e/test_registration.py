"""`serai register` against the stand-in of each generation: from an unknown provider to a job that runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.stack import ROOT, Stack, end_supervisors, free_port, local_text, settings_text
from serai_devcore.applications import acme_request
from serai_devcore.core import DevCore, Settings
from serai_devcore.wire import Generation


@asynccontextmanager
async def strangers(folder: Path, generation: Generation) -> AsyncGenerator[Stack]:
    """A Core that knows no provider, and settings of a provider without keys."""
    assert ROOT.is_dir()
    (folder / "drives").mkdir()
    for part in (folder, folder.parent, folder.parent.parent):
        part.chmod(0o755)  # a job's own user id must reach its drive
    async with DevCore(Settings(generation=generation, initial_credits=10**15)) as core:
        port = free_port()
        text = settings_text(folder, core.url, port, generation=generation.value, backend=local_text(8))
        (folder / "serai.toml").write_text(text)
        running = Stack(folder, core, port)
        try:
            yield running
        finally:
            await running.kill()
            end_supervisors(folder / "state")


async def until_listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    return
            await asyncio.sleep(0.02)


async def test_a_provider_of_2021_registers_itself_and_runs_a_job(tmp_path: Path) -> None:
    """requestApproval, signed and approved by the administrator, the welcome taken and its token checked; then `serai serve` with what was
    stored runs a job; the refresh token is its owner's alone."""
    async with strangers(tmp_path, Generation.G2021) as running:
        core = running.core
        command = asyncio.create_task(running.cli("register", "--address", running.url, "--timeout", "60"))
        await core.until(lambda: len(core.registrations) == 1)
        (asked,) = core.registrations.waiting()
        assert asked.specification == {"id": "example", "domain": "127.0.0.1", "https": False, "port": running.port}
        core.registrations.sign(asked.token)
        await until_listening(running.port)  # it asks first, and then waits for the welcome
        await core.registrations.approve(asked.token)
        code, out, err = await command
        assert code == 0, err
        assert core.providers["example"].issuer.refresh_token.encode() not in out + err
        assert (tmp_path / "refresh.token").stat().st_mode & 0o777 == 0o600
        await running.start()
        sent = await core.submit(acme_request())
        assert sent.accepted, sent.outcome
        await running.until_final(sent.job_id)
        assert core.jobs[sent.job_id].state == "SUCCESS"


async def test_a_provider_of_today_is_given_its_secrets_and_runs_a_job(tmp_path: Path) -> None:
    """An administrator creates it at Core; token and key come on standard input."""
    async with strangers(tmp_path, Generation.G2026) as running:
        core = running.core
        wish = {"id": "example", "domain": "127.0.0.1", "https": False, "port": running.port}
        made = core.registrations.retrieve(core.registrations.create({**wish}).resource_id)
        (tmp_path / "t").write_text(str(made["refreshToken"]))
        (tmp_path / "k").write_text(str(made["publicKey"]))
        files = ("--refresh-token-file", str(tmp_path / "t"), "--public-key-file", str(tmp_path / "k"))
        code, _, err = await running.cli("register", *files)
        assert code == 0, err
        await running.start()
        sent = await core.submit(acme_request())
        assert sent.accepted, sent.outcome
        await running.until_final(sent.job_id)
        assert core.jobs[sent.job_id].state == "SUCCESS"


async def test_products_of_the_settings_are_pushed(tmp_path: Path) -> None:
    """`serai products push` registers the products of the settings, by the API of each generation; a second push changes nothing, and a new
    price is a new version."""
    for generation in Generation:
        folder = tmp_path / generation.value
        folder.mkdir()
        folder.chmod(0o755)
        async with strangers(folder, generation) as running:
            provider = running.core.add_provider("example", url=running.url)
            (folder / "core.key").write_text(provider.issuer.public_key_pem)
            (folder / "refresh.token").write_text(provider.issuer.refresh_token)
            running.core.accounts.products.clear()
            sold = running.core.accounts.products
            file = folder / "serai.toml"
            # Today's Core counts a category in one way.
            own = file.read_text().replace(
                'id = "example-unit"\ncategory = "example-compute"', 'id = "example-unit"\ncategory = "example-once"'
            )
            file.write_text(own)
            for _ in range(2):
                code, _, err = await running.cli("products", "push")
                assert code == 0, err
                assert {p.id: p.version for p in sold.values()} == {"example-compute-1": 1, "example-unit": 1, "example-tiny": 1}
            assert sold["example", "example-once", "example-unit"].unit == "PER_UNIT"
            file.write_text(own.replace('price_unit = "unit"', 'price_unit = "unit"\nprice_per_unit = 7'))
            code, _, err = await running.cli("products", "push")
            assert code == 0, err
            newest = sold["example", "example-once", "example-unit"]
            assert (newest.version, newest.price_per_unit) == (2, 7)
