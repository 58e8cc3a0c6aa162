"""The rig of the test boxes: containers with a real init, virtual machines, a network without a way out."""
