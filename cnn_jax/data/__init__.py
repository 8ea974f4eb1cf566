"""From a name to batches on the device."""
