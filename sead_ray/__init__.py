"""SEAD active learning for end-to-end driving, distributed with Ray (Jiang et al., arXiv 2503.11062)."""

__version__ = "0.1.0"
