"""What a person touches: figures, explorers, results, chapters, reports and the command line."""

import os

# A node without network finds what ``diffusab fetch`` has put into this folder. Here, since the libraries read their
# variables once, when they are imported; child processes inherit them.
if _assets := os.environ.get("DIFFUSAB_ASSETS"):
    os.environ |= {
        "HF_HOME": os.path.join(_assets, "huggingface"),
        "TORCH_HOME": os.path.join(_assets, "torch"),
        "HF_HUB_OFFLINE": "1",
    }
    os.environ.pop("HF_HUB_CACHE", None)
