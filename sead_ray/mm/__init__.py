"""The bridge to mmdet3d for users who build from its configs."""
