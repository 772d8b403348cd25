"""A nuScenes folder in, records out: clips without labels, labels apart, training targets, the torch Dataset."""
