"""Arrow's compute functions. They are made when pyarrow is imported, so that type checkers do not know them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
