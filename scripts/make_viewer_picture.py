"""Take the picture of the viewer in docs/viewer.md, in Debian's Chromium.

    python scripts/make_viewer_picture.py front.safetensors rear.safetensors --out viewer.png

Needs the extra ``viewer``, playwright and chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import memonf
from memonf.viewer import Contents, close_page, open_page

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
#: Colours of a picture that is small on disk.
COLOURS = 128


def main() -> None:
    """Parse the command line, open the page, take its picture."""
    parser = argparse.ArgumentParser(description="picture of the viewer")
    parser.add_argument("fields", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--compare", default="rear", help="what the picture is divided with")
    options = parser.parse_args()
    contents = Contents({path.stem: memonf.load(path) for path in options.fields})
    panel, address = open_page(contents, host="127.0.0.1", port=None, size=700)
    panel.beside.value = options.compare
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 720})
        page.goto(address)
        while not any(shown.last and shown.last.done for shown in panel.pages.values()):
            page.wait_for_timeout(100)
        # The page notes that this browser draws without a GPU.
        page.add_style_tag(content=".mantine-Notification-root { display: none }")
        page.wait_for_timeout(1500)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    shot.quantize(COLOURS).save(options.out, optimize=True)
    close_page(panel)


if __name__ == "__main__":
    main()
