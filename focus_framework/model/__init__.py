"""The network, its deformable attention, its losses, and how it is built from a configuration."""
