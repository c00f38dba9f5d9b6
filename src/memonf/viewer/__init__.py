"""Fields and their merges on a page in the browser, to turn around and to compare.

Called by ``memonf view`` and ``memonf train --viewer``. Nothing here computes a merge or a picture
by itself: `contents` asks `memonf.merging`, `looks` asks the renderer, `painter` does so in the
background, `panel` has the controls, `poses` translates cameras. Needs the extra ``viewer``.
"""

from .contents import Contents
from .live import LiveView
from .serving import close_page, open_page

__all__ = ["Contents", "LiveView", "close_page", "open_page"]
