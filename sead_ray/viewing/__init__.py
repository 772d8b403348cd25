"""One clip to look at: what cameras saw, labels, what the model saw and planned, as files for rerun and Foxglove."""
