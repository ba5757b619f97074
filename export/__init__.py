"""Export of checkpoints as verified bundles, and of bundles as an archive for the device."""
