"""Names of files and folders that checkpoints of this project have."""

CHECKPOINTS = "checkpoints"  # inside a run's folder, Orbax: <step>/, of which 0 is before training
CHECKSUMS = "checksums.json"  # inside a checkpoint
DAMAGED = "damaged"  # inside a run's folder: checkpoints that could not be read
