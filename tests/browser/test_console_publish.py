"""An adapter is published from the browser as a person would: chosen, sent, judged, promoted."""

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ROOT, ConsoleServer

DEMO = ROOT / "demo" / "adapters"


def files_of(folder: str) -> list[Path]:
    return sorted((DEMO / folder).iterdir())


@pytest.mark.parametrize("width", [1440, 390])
def test_files_become_a_version_that_is_promoted_and_rolled_back(
    console: ConsoleServer, visit: Visit, width: int
) -> None:
    name = f"dropped-{width}"
    page = visit(console.url, width=width).open(f"#/publish?name={name}")
    for folder in ("upper", "reverse"):
        page.get_by_label("Files or an archive").set_input_files(files_of(folder))
        expect(page.get_by_role("list", name="Files to send")).to_contain_text(
            "adapter_config.json"
        )
        page.get_by_role("button", name="Publish", exact=True).click()
        number = 1 if folder == "upper" else 2
        done = page.get_by_role("region", name="The new version")
        expect(done.get_by_role("heading", name=f"{name}:{number}")).to_be_visible()
        expect(done).to_contain_text("Modules")
    done.get_by_role("button", name="Promote …").click()
    dialog = page.get_by_role("dialog", name=f"Promote {name}:2")
    slider = dialog.get_by_role("slider")
    slider.fill("10")
    expect(dialog).to_contain_text("@default: 1 → 1 (90 %), 2 (10 %)")
    dialog.get_by_label("Probe").check()
    dialog.get_by_role("button", name="Promote").click()
    expect(page.get_by_text(f"{name}@default means version 1 (90 %), 2 (10 %)")).to_be_visible()
    page.get_by_role("link", name=f"{name}:2").click()
    page.get_by_role("button", name="Roll back 1 (90 %), 2 (10 %) → 1").click()
    dialog = page.get_by_role("dialog", name=f"Roll back {name}@default")
    expect(dialog).to_contain_text(f"{name}@default: 1 (90 %), 2 (10 %) → 1")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text(f"{name}@default means version 1 again")).to_be_visible()


def test_a_zip_is_read_in_the_browser(console: ConsoleServer, visit: Visit, tmp_path: Path) -> None:
    archive = tmp_path / "Zipped Adapter.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files_of("vowels"):
            packed.write(path, f"run-7/{path.name}")
        packed.writestr("run-7/optimizer.pt", b"not sent")
    page = visit(console.url).open("#/publish")
    page.get_by_label("Files or an archive").set_input_files(archive)
    expect(page.get_by_label("Adapter", exact=True)).to_have_value("zipped-adapter")
    expect(page.get_by_text("optimizer.pt")).to_have_count(0)
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("heading", name="zipped-adapter:1")).to_be_visible()


def test_what_is_refused_says_why(console: ConsoleServer, visit: Visit, tmp_path: Path) -> None:
    page = visit(console.url).open("#/publish?name=broken")
    chooser = page.get_by_label("Files or an archive")
    chooser.set_input_files(DEMO / "upper" / "adapter_config.json")
    expect(page.get_by_role("alert")).to_contain_text("There is no adapter_model.safetensors")
    cut = tmp_path / "adapter_model.safetensors"
    cut.write_bytes((DEMO / "upper" / cut.name).read_bytes()[:1000])
    chooser.set_input_files([DEMO / "upper" / "adapter_config.json", cut])
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("header_invalid")
    chooser.set_input_files(DEMO / "upper" / "adapter_config.json")
    expect(page.get_by_role("alert")).to_contain_text("There is no adapter_model.safetensors")
    expect(page.get_by_role("button", name="Publish", exact=True)).to_be_disabled()


def go(page: Page, address: str, heading: str) -> None:
    page.evaluate("(address) => { location.hash = address; }", address)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)


def test_an_upload_goes_on_while_other_pages_are_shown(
    console: ConsoleServer, visit: Visit
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = visit(console.url).open("#/publish?name=background")
    page.route("**/versions?wait=0", hold)
    page.get_by_label("Files or an archive").set_input_files(files_of("upper"))
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    go(page, "#/keys", "Keys")
    go(page, "#/publish", "Publish")
    expect(page.get_by_label("Adapter", exact=True)).to_have_value("background")
    expect(page.get_by_role("button", name="Publish", exact=True)).to_be_disabled()
    go(page, "#/keys", "Keys")
    held[0].continue_()
    expect(page.get_by_text("background:1 is registered")).to_be_visible()
    go(page, "#/publish", "Publish")
    expect(page.get_by_role("heading", name="background:1")).to_be_visible()


def test_an_upload_is_stopped_by_its_button_alone(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url).open("#/publish?name=unwanted")
    page.route("**/versions?wait=0", lambda route: None)
    page.get_by_label("Files or an archive").set_input_files(files_of("upper"))
    page.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert")).to_contain_text("it was stopped before all was sent")
