"""VAD in plain PyTorch. A base model is a contract (`contract.py`); `vad.py` is the one that ships."""
